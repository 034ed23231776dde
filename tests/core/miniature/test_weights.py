"""The weights that `make miniature` makes: their size, the whole way from a face to judged pictures, and that a
training goes on in their direction."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from f2d_core.backends.diffusers_training import load_training_parts
from f2d_core.cli import USER_ERROR
from f2d_core.miniature import choices, mappings
from f2d_core.miniature.demo import run as run_demo
from f2d_core.miniature.evidence import shipped_judges
from f2d_core.miniature.gallery import (
    Request,
    characters,
    draw,
    encode_photos,
    judge,
    quick_pipeline,
    true_pictures,
)
from f2d_core.miniature.job import precision
from f2d_core.miniature.make import MAPPING_FILE, MODEL, MSID_FILE, RECON_FILE, WEIGHTS
from f2d_core.miniature.mappings import FACE2DIFFUSION, Place, photo_cache
from f2d_core.miniature.photos import PhotoSet
from f2d_core.miniature.watching import silent
from f2d_core.networks import load_network
from f2d_core.train.mapping_run import train
from f2d_core.train.preview import validation_losses
from f2d_core.train.task import MappingTask
from f2d_core.weights import read_tensors

pytestmark = [
    # numpy warns of how torch hands arrays over, inside diffusers' schedulers.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.skipif(not (WEIGHTS / MAPPING_FILE).is_file(), reason="no weights of the small world (make miniature)"),
]

MOST_BYTES = 40_000_000
FACES = PhotoSet(seed=4960, count=6, calm=True)  # whom no weight has seen
PROMPTS = (0, 9, 12, 22, 31, 35)  # places in captions.PROMPTS


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def networks():
    return load_network(WEIGHTS / MSID_FILE, "msid"), load_network(WEIGHTS / MAPPING_FILE, "mapping")


def test_they_are_small_and_in_half_precision():
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]

    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    for path in (path for path in files if path.suffix == ".safetensors"):
        tensors, _ = read_tensors(path)
        assert all(v.dtype == torch.float16 for v in tensors.values() if v.is_floating_point()), path.name


def test_they_say_what_made_them(networks):
    msid, mapping = networks

    assert mapping.facts["msid_sha256"] == msid.sha256
    assert mapping.facts["method"] == "face2diffusion" and "invented people" in mapping.licence


def test_a_face_becomes_pictures_that_the_judges_know(networks):
    """Render in, picture out, judged: well above chance, which is 1 % and 2.5 %."""
    judging = shipped_judges()
    known = characters(FACES, judging)
    asked = [(face, prompt) for face in range(FACES.count) for prompt in PROMPTS]
    people = encode_photos(FACES, *networks)
    requests = [Request(mappings_prompt(p), (people[f],), 100 + i) for i, (f, p) in enumerate(asked)]
    faces, prompts = zip(*asked, strict=True)

    ours = judge(draw(quick_pipeline(WEIGHTS / MODEL), requests), faces, prompts, known, judging)
    true = judge(true_pictures(FACES, faces, prompts, 5), faces, prompts, known, judging)

    share = {name: ours.columns[name].mean() for name in ("nearest", "prompt", "found")}
    assert share["nearest"] > 0.3 and share["prompt"] > 0.4 and share["found"] > 0.9, share
    assert true.columns["nearest"].mean() > 0.7 and true.columns["prompt"].mean() > 0.7


def mappings_prompt(i):
    from f2d_core.miniature.captions import PROMPTS as ALL

    return ALL[i]


def test_a_short_training_goes_the_way_of_the_shipped_mapping(tmp_path, monkeypatch):
    """Forty steps on other people: their loss falls from that of random words towards the shipped mapping's."""
    monkeypatch.setattr(mappings, "TRAINING_PHOTOS", PhotoSet(seed=4970, count=48))
    mappings._known_faces.cache_clear()
    place = Place(tmp_path, WEIGHTS / MODEL, WEIGHTS / RECON_FILE)
    cache = photo_cache(FACE2DIFFUSION, WEIGHTS / MSID_FILE, place, silent)
    mappings._known_faces.cache_clear()
    parts = load_training_parts(WEIGHTS / MODEL, precision=precision())
    config = replace(FACE2DIFFUSION.config(3), steps=40, batch=8, micro_batch=8, hold_out=12, validation_images=12)

    loss = partial(validation_loss, parts, cache, config)
    result = train(parts, cache, config, tmp_path / "run")
    before, after, shipped = loss(""), loss(str(result.mapping)), loss(str(WEIGHTS / MAPPING_FILE))
    assert after < before and shipped < before, (before, after, shipped)


def validation_loss(parts, cache, config, start_from):
    from f2d_core.train.mapping_run import MappingJob

    task = MappingJob(parts, cache, replace(config, start_from=start_from), None).task
    assert isinstance(task, MappingTask)
    return validation_losses(task, 8, lambda: False)["loss"]


def test_the_demo_draws_its_sheet(tmp_path, monkeypatch, capsys):
    from PIL import Image

    monkeypatch.setattr("f2d_core.miniature.demo.PER_PROMPT", 1)
    sheet = np.asarray(Image.open(run_demo(tmp_path)))

    assert sheet.shape[1] > 7 * 128 and sheet.shape[0] > 3 * 128 and sheet.std() > 20
    told = capsys.readouterr()
    assert "nearest of 100" in told.out + told.err and "doctor" in told.out + told.err


def test_mappings_are_compared_on_people_and_prompts_of_no_table(tmp_path, monkeypatch, capsys):
    pairs = choices.asked()
    assert len(set(pairs)) == len(pairs) == choices.EACH * choices.FACES.count

    monkeypatch.setattr(choices, "FACES", PhotoSet(seed=4980, count=2, calm=True))
    monkeypatch.setattr(choices, "EACH", 2)
    assert choices.main([]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().err.splitlines()]
    ours, true = (
        [float(cell) for cell in next(line for line in lines if line.endswith(end)).split()[:6]]
        for end in (MAPPING_FILE, "(true renders)")
    )
    assert true[0] == 1 and true[1] >= ours[1] and true[3] > ours[3] > 0

    missing = tmp_path / "none.safetensors"
    monkeypatch.setattr(choices, "draw", None)  # nothing is drawn before all mappings are there
    assert choices.main([str(WEIGHTS / MAPPING_FILE), str(missing)]) == USER_ERROR
    assert missing.name in capsys.readouterr().err
