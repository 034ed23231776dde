"""The pack as ComfyUI sees it: what loading it costs, and whether schemas, code and help pages agree."""

import importlib.util
import inspect
import json

import pytest

from tests.support import base_directory, checkouts

REPO = base_directory.REPO
DISPLAY_NAMES = {
    "F2DLoadMSIDEncoder": "Load MSID Encoder",
    "F2DLoadMapping": "Load Mapping Network",
    "F2DLoadExpressionEncoder": "Load Expression Encoder",
    "F2DDetectFaces": "Detect Faces",
    "F2DEncodeFace": "Encode Face → S*",
    "F2DExpressionReference": "Expression Reference",
    "F2DInject": "Inject S* into CONDITIONING",
    "F2DApplyToClip": "Apply S* to CLIP",
    "F2DSaveSStar": "Save S*",
    "F2DLoadSStar": "Load S*",
    "F2DExportEmbedding": "Export S* as Embedding",
    "F2DBlend": "Blend S*",
    "F2DAverageFaces": "Average Faces",
    "F2DExpressionSweep": "Expression Sweep",
    "F2DDelayedSubject": "Delayed Subject Conditioning",
    "F2DSchedule": "S* Schedule",
    "F2DRegions": "Region per Person",
    "F2DPrepareDataset": "Prepare Face Dataset",
    "F2DAugment": "Make Editing Triplets",
    "F2DPrepareTriplets": "Prepare Editing Triplets",
    "F2DTrainMapping": "Train Mapping Network",
    "F2DLoadJudges": "Load Likeness Models",
    "F2DLikeness": "Likeness",
    "F2DBestOfN": "Best of N",
    "F2DFaceReport": "Face Report",
    "F2DDoctor": "Doctor",
}
OWN_SOCKETS = {
    *("F2D_MSID", "F2D_MAPPING", "F2D_EXPRESSION_ENCODER", "F2D_EXPRESSION", "F2D_FACES", "F2D_SSTAR"),
    *("F2D_DATASET", "F2D_TRIPLETS", "F2D_JUDGES"),
}
CORE_SOCKETS = {
    *("IMAGE", "MODEL", "CLIP", "VAE", "CONDITIONING", "FACE_LANDMARKS", "BOUNDING_BOX", "LOSS_MAP"),
    *("MASK", "SIGMAS", "CLIP_VISION"),
    *("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"),
}
# What saved workflows rely on: written down once and only ever added to (see test_interface_is_frozen).
INTERFACE = json.loads(base_directory.INTERFACE.read_text(encoding="utf-8"))


@pytest.fixture(params=sorted(DISPLAY_NAMES))
def node(request, host):
    return host.mappings[request.param]


@pytest.fixture
def schema(node):
    return node.GET_SCHEMA()


def test_loading_brings_no_foreign_module_and_needs_no_optional_package(tmp_path):
    """In a fresh process, with cv2, insightface and the like taken away: see bench/import.py."""
    spec = importlib.util.spec_from_file_location("bench_import", REPO / "bench" / "import.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    bench.lay_out(tmp_path)

    assert {"cv2", "onnxruntime", "insightface", "facexlib", "diffusers"} <= set(bench.OPTIONAL)
    assert bench.fresh(checkouts.comfyui(), tmp_path)[bench.OURS]["modules"] == []


def test_the_nodes_are_these(host):
    ours = {name: cls.GET_SCHEMA().display_name for name, cls in host.mappings.items() if name.startswith("F2D")}

    assert ours == DISPLAY_NAMES
    assert {node.GET_SCHEMA().node_id for node in host.pack_module("nodes").NODES} == set(DISPLAY_NAMES)


def test_execute_takes_exactly_the_inputs(node, schema):
    parameters = inspect.signature(node.execute).parameters
    empty = inspect.Parameter.empty

    assert [item.id for item in schema.inputs] == list(parameters)
    for item in schema.inputs:
        assert item.optional == (parameters[item.id].default is not empty), item.id
        if item.optional:
            assert getattr(item, "default", None) == parameters[item.id].default, item.id


def test_required_inputs_come_first(schema):
    """So that widgets added later, which are optional, do not shift the saved values of the others."""
    optional = [item.optional for item in schema.inputs]

    assert optional == sorted(optional)


def test_input_and_output_ids_differ(schema):
    inputs, outputs = [item.id for item in schema.inputs], [item.id for item in schema.outputs]

    assert len(set(inputs + outputs)) == len(inputs) + len(outputs)


def test_sockets_are_ours_or_the_hosts(schema):
    for item in (*schema.inputs, *schema.outputs):
        assert item.get_io_type() in OWN_SOCKETS | CORE_SOCKETS, item.id


def test_everything_is_explained(schema):
    assert schema.description
    for item in schema.inputs:
        assert item.tooltip, item.id


def test_help_page_names_every_input_and_output(schema):
    page = (REPO / "web" / "docs" / f"{schema.node_id}.md").read_text(encoding="utf-8")

    for item in (*schema.inputs, *schema.outputs):
        assert f"`{item.id}`" in page, item.id


def test_interface_is_frozen(schema):
    """What a saved workflow may use of a node keeps its name, type, place and default; new ones go after them.

    After adding an input or a node, add it to tests/support/interface.json as well. A row of an input: name, type,
    required or optional, and the default where it has one.
    """
    frozen = INTERFACE[schema.node_id]
    inputs = [
        [item.id, item.get_io_type(), "optional" if item.optional else "required", *_default(item)]
        for item in schema.inputs
    ]
    outputs = [[item.id, item.get_io_type()] for item in schema.outputs]

    assert inputs == frozen["inputs"]
    assert outputs == frozen["outputs"]


def _default(item):
    default = getattr(item, "default", None)
    return [] if default is None else [default]


def test_every_frozen_node_is_still_there(host):
    assert set(INTERFACE) == {name for name in host.mappings if name.startswith("F2D")}
