"""The README agrees with the code: models, nodes, commands, links, figures. ComfyUI is not needed to know its nodes."""

import ast
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from f2d_core.catalogue import PUBLISHED
from f2d_core.cli.arguments import build_parser, parse
from f2d_core.prompt import Person
from f2d_core.s_star import SStar, embedding_vectors, export_deviation

REPO = Path(__file__).resolve().parents[2]
README = (REPO / "README.md").read_text(encoding="utf-8")
INTERFACE = json.loads((REPO / "tests" / "support" / "interface.json").read_text(encoding="utf-8"))
PICTURES = ["demo-sheet.png", "face-to-word.png"]  # of docs/, in this order
FIRST_SCREEN_LINES = 12
MOST_PICTURE_BYTES, MOST_HELP_PICTURE_BYTES = 300_000, 60_000

# Prompts of the table of export deviations, by the token that S* begins at.
EXPORTED_FOR = 4
PROMPTS = {
    4: "a photo of S* as a chef",
    1: "S* as a chef",
    6: "a photo of a smiling S* as a chef",
    19: "a photo of a busy market street in the early morning, with fruit and flowers, and S* as a chef",
}


def section(title):
    """The text below a heading of the second level, up to the next one."""
    return re.split(r"^## ", README.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def table(text):
    """The cells of the rows of the first table in `text`, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def nodes():
    """Node id -> display name of every class in NODES, read from the source."""
    classes = {}
    for file in sorted((REPO / "nodes").glob("*.py")):
        for item in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(item, ast.ClassDef):
                classes[item.name] = item
    return dict(_names(classes[name]) for name in _listed())


def _listed():
    tree = ast.parse((REPO / "nodes" / "__init__.py").read_text(encoding="utf-8"))
    (nodes,) = (item.value for item in tree.body if isinstance(item, ast.Assign) and item.targets[0].id == "NODES")
    return [element.id for element in nodes.elts]


def _names(node):
    """The id and the display name out of define_schema: by keyword, or the first two positions of a shared helper."""
    for call in (item for item in ast.walk(node) if isinstance(item, ast.Call)):
        keywords = {word.arg: word.value for word in call.keywords}
        found = [keywords.get("node_id"), keywords.get("display_name")]
        found = found if all(found) else call.args[:2]
        texts = [item.value for item in found if isinstance(item, ast.Constant)]
        if len(texts) == 2 and str(texts[0]).startswith("F2D"):
            return texts
    raise AssertionError(f"{node.name} has no node id that can be read here")


def commands():
    (subparsers,) = (action for action in build_parser()._actions if action.dest == "command")
    return sorted(subparsers.choices)


def test_the_licence_of_the_published_weights_stands_on_the_first_screen():
    first_screen = "\n".join(README.splitlines()[:FIRST_SCREEN_LINES])

    assert "CC BY-NC-SA 4.0" in first_screen and "non-commercial" in first_screen


def test_the_models_table_is_the_catalogue():
    expected = [
        [e.title, f"`{e.file}`", f"{e.megabytes:g} MB", e.licence, "yes" if e.commercial else "no", e.where]
        for e in PUBLISHED.values()
    ]

    assert table(section("Models")) == expected
    assert "models/face2diffusion" in section("Models")


def test_every_node_is_in_the_reference_and_has_its_page():
    rows = [row[0] for row in table(section("Nodes"))]

    assert rows == [f"[{name}](web/docs/{node_id}.md)" for node_id, name in nodes().items()]
    assert {page.stem for page in (REPO / "web" / "docs").glob("*.md")} == set(nodes())


@pytest.mark.parametrize("node_id", sorted(nodes()))
def test_help_pages_have_what_a_user_looks_for(node_id):
    page = (REPO / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")

    assert page.startswith(f"# {nodes()[node_id]}\n")
    for heading in (r"## Inputs?", r"## Outputs?", "## Example", "## Common mistakes"):
        assert re.search(rf"^{heading}$", page, re.MULTILINE), heading


@pytest.mark.parametrize("node_id", sorted(nodes()))
def test_help_pages_have_a_line_for_every_input_and_output(node_id):
    page = (REPO / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")

    for part in ("inputs", "outputs"):
        explained = _explained(page, part)
        for name in [row[0] for row in INTERFACE[node_id][part]]:
            assert name in explained, (part, name)


@pytest.mark.parametrize("node_id", sorted(nodes()))
def test_help_pages_have_a_small_picture(node_id):
    page = (REPO / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")

    (name,) = re.findall(r"^!\[.+\]\((pictures/\w+\.png)\)$", page, re.MULTILINE)
    assert (REPO / "web" / "docs" / name).stat().st_size < MOST_HELP_PICTURE_BYTES


def _explained(page, part):
    """The names at the beginning of the lines of a list or a table below "## Inputs", each with something after it."""
    text = re.search(rf"^## {part[:-1]}s?$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL | re.IGNORECASE)[1]
    lines = re.findall(r"^(?:- |\| )(.*?)(?: \| |: )\S", text, re.MULTILINE)
    return {name for line in lines for name in re.findall(r"`(\w+)`", line)}


def examples():
    blocks = re.findall(r"^```\n(.*?)^```", section("Command line"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("python -m f2d_core ")]


def test_every_command_has_an_example():
    assert {line.split()[3] for line in examples()} == set(commands())


@pytest.mark.parametrize("line", examples(), ids=lambda line: line.split()[3])
def test_the_options_of_every_example_exist(line):
    words = [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', line)][3:]

    assert parse(words).command == words[0]


PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *(f"docs/{page.name}" for page in REPO.glob("docs/*.md"))]


@pytest.mark.parametrize("file", sorted(PAGES))
def test_links_to_files_and_headings_lead_somewhere(file):
    path = REPO / file
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, target


@pytest.mark.parametrize("file", sorted((REPO / "workflows").glob("*.json")), ids=lambda file: file.stem)
def test_every_workflow_is_named_on_a_page(file):
    """By its file, or as a name: `two_people`."""
    named = re.compile(rf"workflows/{file.stem}\.json|`{file.stem}`")
    pages = [REPO / "README.md", *(REPO / "docs").glob("*.md")]

    assert any(named.search(page.read_text(encoding="utf-8")) for page in pages)


def test_the_pages_for_tasks_are_in_the_readme():
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)", README))

    assert {page.name for page in (REPO / "docs").glob("*.md")} <= linked


TASKS = "two-people expressions blend-and-average delayed-subject identity-library with-loras-and-controlnet".split()
# Markers and settings of other nodes that those pages name.
VALUES = {"anna", "anna_2", "person", "fixed", "euler", "euler_ancestral", "normal", "robust", "mean"}


@pytest.mark.parametrize("name", TASKS)
def test_pages_for_tasks_name_what_there_is(name):
    """Every `small_word` is an input or output of a node, a workflow, or one of the values below."""
    page = (REPO / "docs" / f"{name}.md").read_text(encoding="utf-8")
    known = {row[0] for node in INTERFACE.values() for part in ("inputs", "outputs") for row in node[part]}
    known |= {file.stem for file in (REPO / "workflows").glob("*.json")} | VALUES

    assert re.search(r"`workflows/\w+\.json`", page) and "## Common mistakes" in page
    assert set(re.findall(r"`([a-z][a-z0-9_]*)`", page)) <= known
    for title in re.findall(r"\*\*\[(.+?)\]\(\.\./web/docs/(\w+)\.md\)", page):
        assert (title[0].replace("\\", ""), title[1]) in {(name, node_id) for node_id, name in nodes().items()}


def test_architecture_names_every_file_of_the_pack():
    page = (REPO / "docs" / "architecture.md").read_text(encoding="utf-8")
    for folder in ("f2d_core", "nodes"):
        for file in sorted((REPO / folder).iterdir()):
            if file.suffix == ".py" or (file.is_dir() and any(file.glob("*.py"))):
                assert file.name in page, f"{folder}/{file.name} has no place in docs/architecture.md"


def test_the_pictures_are_there_and_small():
    assert re.findall(r"\]\(docs/([\w-]+\.png)\)", README) == PICTURES
    assert all((REPO / "docs" / name).stat().st_size < MOST_PICTURE_BYTES for name in PICTURES)


# --- the figures of the export ---


@pytest.fixture(scope="module")
def encoder(golden_weights):
    """The stand-in of SD 1.x's text encoder from the golden data, with CLIP's vocabulary from a ComfyUI checkout."""
    transformers = pytest.importorskip("transformers", reason="the extra `diffusers` is not installed")
    from f2d_core.backends.single_file import text_config
    from f2d_core.backends.transformers import DiffusersTextEncoder

    root = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI")
    if not (root / "comfy" / "sd1_tokenizer").is_dir():
        pytest.skip("no CLIP vocabulary: a ComfyUI checkout has one (github.com/Comfy-Org/ComfyUI, COMFYUI_PATH)")
    weights = {k.removeprefix("text_model."): v for k, v in golden_weights("clip-text").items()}
    weights = {key: value for key, value in weights.items() if not key.endswith("position_ids")}
    model = transformers.CLIPTextModel(transformers.CLIPTextConfig(**text_config(weights)))
    prefix = "text_model." if hasattr(model, "text_model") else ""
    model.load_state_dict({prefix + key: value for key, value in weights.items()})
    return DiffusersTextEncoder(model.eval(), transformers.CLIPTokenizer.from_pretrained(root / "comfy/sd1_tokenizer"))


@pytest.fixture(scope="module")
def people(golden):
    """Two S* of the convention "sum": what the official mapping code gave with stand-in weights."""
    with np.load(golden / "mapping.npz") as arrays:
        words = np.stack([arrays["noexp_first"][:2], arrays["noexp_last"][:2]], axis=1)
    return [SStar(torch.from_numpy(vectors)) for vectors in words]


def _length_ratio(difference, whole):
    return (difference.norm() / whole.norm()).item()


def test_the_export_deviates_as_the_readme_says(encoder, people):
    positions = encoder.position_embedding()
    stated = {int(row[0].split(",")[0]): row[1:] for row in table(section("Injection conventions and the export"))}
    assert set(stated) == set(PROMPTS)
    for position, text in PROMPTS.items():
        words, prompt, person = [], [], []
        plain = encoder.encode(text.replace("S*", "a person")).hidden
        for s_star in people:
            exported = replace(s_star, vectors=embedding_vectors(s_star, positions, EXPORTED_FOR), injection="token")
            exact = encoder.encode(text, [Person(s_star)])
            assert exact.slots[0].position == position
            words.append(export_deviation(s_star, positions, EXPORTED_FOR)[position - 1].item())
            prompt.append(_length_ratio(encoder.encode(text, [Person(exported)]).hidden - exact.hidden, exact.hidden))
            person.append(_length_ratio(plain - exact.hidden, exact.hidden))
        for cell, measured in zip(stated[position], (words, prompt, person), strict=True):
            tolerance = 0.0006 if "." in cell else 0.006
            assert float(cell.rstrip("%")) / 100 == pytest.approx(np.mean(measured), abs=tolerance), (position, cell)
