"""The workflows that join this pack with the host's own features, run on stand-in weights in small and few steps.

A LoRA and a ControlNet of random numbers are made on the spot, for the small checkpoint of the tests.
"""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.support import base_directory, checkouts, workflows
from tests.support.small_checkpoint import CHANNELS, state_dict

WORKFLOWS = base_directory.REPO / "workflows"
A, B, EXPRESSION = "0.jpg", "1.jpg", "2.jpg"
RANK = 4
HINT_CHANNELS = (3, 16, 16, 32, 32, 96, 96, 256, CHANNELS)  # of the convolutions that read the map


@pytest.fixture
def graph(golden, yunet_file):
    """graph(server, name) -> the workflow for that server, with photo A."""

    def make(server, name):
        made = workflows.to_api(workflows.load(WORKFLOWS / f"{name}.json"), server.object_info)
        for node in made.values():
            if node["class_type"] == "LoadImage":
                node["inputs"]["image"] = A
            if node["class_type"] == "EmptyLatentImage":
                node["inputs"].update(width=64, height=64)
            if node["class_type"] == "KSampler":
                node["inputs"]["steps"] = 2
        workflows.inputs_of(made, "CheckpointLoaderSimple")["ckpt_name"] = base_directory.CHECKPOINT
        return made

    return make


def titled(graph, title):
    """The inputs of the node with this title."""
    (node,) = [node for node in graph.values() if node["_meta"]["title"] == title]
    return node["inputs"]


def pictures(server, graph):
    """The one picture of each Save Image node, from the first to the last."""
    shown = server.run(graph)
    saved = [key for key, node in graph.items() if node["class_type"] == "SaveImage"]
    found = [server.picture(entry) for key in saved for entry in shown[key]["images"]]
    assert len(found) == len(saved) and all(one.shape == (64, 64, 3) and one.std() > 5 for one in found)
    return found


def differ(one, other):
    return np.abs(one.astype(int) - other).mean()


def test_the_expression_of_another_face(server, graph):
    made = graph(server, "expression_reference")
    titled(made, "The expression (any face)")["image"] = EXPRESSION
    (shown,) = pictures(server, made)

    workflows.inputs_of(made, "F2DExpressionReference")["strength"] = 2.0
    (exaggerated,) = pictures(server, made)
    titled(made, "The photo")["image"] = B
    (other_person,) = pictures(server, made)

    assert differ(shown, exaggerated) > 0.1 and differ(exaggerated, other_person) > 0.1


def test_an_exported_person_gives_the_picture_that_s_star_gives(server, graph):
    made = graph(server, "export_embedding")
    (exported,) = pictures(server, made)
    inject = graph(server, "face_to_image")
    workflows.inputs_of(inject, "F2DInject")["text"] = "a photo of S*"
    (injected,) = pictures(server, inject)
    titled(made, "The photo")["image"] = B
    (other_person,) = pictures(server, made)

    # The file holds the same numbers less the place they were written for: rounding is all that is left.
    assert np.abs(exported.astype(int) - injected).max() <= 1
    assert differ(exported, other_person) > 0.1
    assert len(list((server.base / "models" / "embeddings").glob("anna*.safetensors"))) == 2


def make_lora(file):
    """A LoRA for the small checkpoint: what reads the prompt in the UNet, and a layer of the text encoder."""
    generator = torch.Generator().manual_seed(1)
    layers = {
        "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_v": (CHANNELS, 768),
        "lora_te_text_model_encoder_layers_3_self_attn_v_proj": (768, 768),
    }
    tensors = {}
    for key, (rows, columns) in layers.items():
        tensors[f"{key}.lora_up.weight"] = torch.randn(rows, RANK, generator=generator)
        tensors[f"{key}.lora_down.weight"] = torch.randn(RANK, columns, generator=generator) * 0.05
        tensors[f"{key}.alpha"] = torch.tensor(float(RANK))
    save_file(tensors, file)


def test_with_a_lora(server, graph):
    made = graph(server, "with_lora")
    lora = workflows.inputs_of(made, "LoraLoader")
    make_lora(server.base / "models" / "loras" / lora["lora_name"])
    (shown,) = pictures(server, made)
    titled(made, "The photo")["image"] = B
    (other_person,) = pictures(server, made)
    lora.update(strength_model=0.0, strength_clip=0.0)
    (plain,) = pictures(server, made)

    assert differ(shown, other_person) > 0.1 and differ(other_person, plain) > 0.5


def make_control_net(file):
    """A ControlNet for the small checkpoint: its encoder, what reads the map, outputs that are not zero."""
    generator = torch.Generator().manual_seed(2)
    prefix = "model.diffusion_model."
    encoder = ("time_embed.", "input_blocks.")
    unet = {key.removeprefix(prefix): tensor.float().clone() for key, tensor in state_dict().items() if prefix in key}
    tensors = {key: tensor for key, tensor in unet.items() if key.startswith(encoder)}
    for number, (taken, given) in enumerate(itertools.pairwise(HINT_CHANNELS)):
        tensors[f"input_hint_block.{2 * number}.weight"] = torch.randn(given, taken, 3, 3, generator=generator) * 0.1
        tensors[f"input_hint_block.{2 * number}.bias"] = torch.zeros(given)
    for key in ("zero_convs.0.0", "zero_convs.1.0", "middle_block_out.0"):
        tensors[f"{key}.weight"] = torch.randn(CHANNELS, CHANNELS, 1, 1, generator=generator) * 0.05
        tensors[f"{key}.bias"] = torch.zeros(CHANNELS)
    residual = {key: tensor for key, tensor in unet.items() if key.startswith("input_blocks.1.0.")}
    tensors |= {key.replace("input_blocks.1.0.", "middle_block.0."): tensor for key, tensor in residual.items()}
    save_file({key: tensor.half().contiguous() for key, tensor in tensors.items()}, file)


def make_pose(file, seed):
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)).save(file)


def test_the_scene_switch_has_the_pose_in_both_rows_and_the_person_in_one(server, graph):
    made = graph(server, "scene_switch")
    (server.base / "models" / "controlnet").mkdir(exist_ok=True)
    folder = server.base / "models" / "controlnet"
    make_control_net(folder / workflows.inputs_of(made, "ControlNetLoader")["control_net_name"])
    for number in (1, 2):
        make_pose(server.base / "input" / f"pose{number}.png", number)
    pose = titled(made, "Pose or landmarks, ready made")
    pose["image"] = "pose1.png"
    person, control = pictures(server, made)
    titled(made, "The photo")["image"] = B
    other_person, same_control = pictures(server, made)
    pose["image"] = "pose2.png"
    other_pose, other_control = pictures(server, made)

    assert differ(person, control) > 0.1 and differ(person, other_person) > 0.1
    assert np.array_equal(control, same_control)
    assert differ(other_person, other_pose) > 0.1 and differ(control, other_control) > 0.1


def test_oldest_supported_release(start, graph):
    old = start(root=checkouts.old_comfyui())
    made = graph(old, "expression_reference")
    titled(made, "The expression (any face)")["image"] = EXPRESSION
    pictures(old, made)
    pictures(old, graph(old, "export_embedding"))
    made = graph(old, "with_lora")
    make_lora(old.base / "models" / "loras" / workflows.inputs_of(made, "LoraLoader")["lora_name"])
    pictures(old, made)
