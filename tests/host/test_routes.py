"""What the page asks under /f2d/: answers, and one clear line for whatever should not have been asked."""

import asyncio
import json
from types import SimpleNamespace

import pytest
import torch


@pytest.fixture(scope="module")
def page(host):
    return host.pack_module("nodes.page")


@pytest.fixture(scope="module")
def f2d_error(host):
    return host.pack_module("f2d_core.errors").F2DError


@pytest.fixture
def request_of(host):
    """request_of("POST", route's answer, body bytes, …) -> (status, JSON) as aiohttp would get it."""
    routes = host.pack_module("nodes.host_routes")

    class Content:
        def __init__(self, data):
            self.data = data

        async def iter_chunked(self, size):
            for at in range(0, len(self.data), size):
                yield self.data[at : at + size]

    def send(method, answer, data=b"", query=None, content_type="application/json", **headers):
        request = SimpleNamespace(
            query=query or {}, headers=headers, content_type=content_type, content=Content(data), method=method
        )
        response = asyncio.run(routes.handler(routes.Route(method, "/f2d/test", answer))(request))
        return response.status, json.loads(response.body)

    return send


def test_a_prompt_as_the_hosts_own_tokenizer_reads_it(host, page, clip):
    text = "a photo of (S*:1.2), unbelievably 🚲 and (anna)" + ", more" * 40

    view = page.tokens({"text": text, "people": [{"marker": "S*"}, {"marker": "anna", "words": 3}]})

    (report,) = [view["chunks"]]
    words = [sum(token["person"] is not None for token in chunk) for chunk in report]
    assert [len(chunk) for chunk in report] == [75, 17] and words == [5, 0]
    assert [t["text"] for t in report[0][:6]] == ["a", "photo", "of", "S*", "S*", ","]
    assert {t["weight"] for t in report[0] if t["person"] == 0} == {1.2}
    # The same as what is encoded.
    Person, SStar = host.pack_module("f2d_core.prompt").Person, host.pack_module("f2d_core.s_star").SStar
    people = [Person(SStar(torch.zeros(n, 768), marker=m, injection="token")) for n, m in ((2, "S*"), (3, "anna"))]
    encoded = host.pack_module("nodes.host").with_people(clip(), people).tokenize(text)["l"]
    frame = 49406, 49407
    kept = [[t for t in chunk if torch.is_tensor(t[0]) or t[0] not in frame] for chunk in encoded]
    assert [[round(t[1], 6) for t in chunk] for chunk in kept] == [
        [round(t["weight"], 6) for t in chunk] for chunk in report
    ]
    assert [[torch.is_tensor(t[0]) for t in chunk] for chunk in kept] == [
        [t["person"] is not None for t in chunk] for chunk in report
    ]


def test_a_saved_person_is_asked_by_file(host, page, f2d_error):
    s_star = host.pack_module("f2d_core.s_star")
    folder = host.base / "models" / "face2diffusion" / "identities"
    s_star.save_s_star(s_star.SStar(torch.zeros(3, 768), marker="ben", injection="token"), folder / "ben.safetensors")

    assert page.tokens({"text": "ben", "people": [{"file": "ben.safetensors"}]})["people"] == [
        {"marker": "ben", "words": 3}
    ]
    view = page.tokens({"text": "T*", "people": [{"file": "ben.safetensors", "marker": "T*"}]})
    assert view["missing"] == [] and view["people"][0]["marker"] == "T*"
    for file in ("nobody.safetensors", "../mapping.pt", "../../checkpoints/small-sd15.ckpt", "/etc/passwd", "a\0b", ""):
        with pytest.raises(f2d_error) as raised:
            page.tokens({"text": "ben", "people": [{"file": file}]})
        assert "\n" not in str(raised.value)


def test_only_saved_people_are_read_and_none_of_any_size(host, page, f2d_error):
    """Also where the file itself would do: the page may ask for anything."""
    s_star = host.pack_module("f2d_core.s_star")
    folder = host.base / "models" / "face2diffusion"
    person = s_star.SStar(torch.zeros(3, 768), marker="eve", unknown_tensors={"more": torch.zeros(200_000)})
    s_star.save_s_star(person, folder / "outside.safetensors")
    s_star.save_s_star(person, folder / "identities" / "huge.safetensors")
    torch.save({"x": torch.zeros(2)}, folder / "outside.pt")
    refused = {
        **dict.fromkeys(["../outside.safetensors", "../outside.pt", "sub/../../outside.safetensors"], "is not in"),
        "..\\outside.safetensors": "is not in",
        "huge.safetensors": "an identity file at most 700,000",
    }
    try:
        for file, message in refused.items():
            with pytest.raises(f2d_error, match=message):
                page.tokens({"text": "eve", "people": [{"file": file}]})
            assert (host.pack_module("nodes.host").find_identity(file) is None) == (message == "is not in")
    finally:
        for file in ("outside.safetensors", "outside.pt", "identities/huge.safetensors"):
            (folder / file).unlink()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text": 3},
        {"text": "x" * 20_001},
        {"text": "a", "people": {}},
        {"text": "a", "people": [{"marker": "S*"}] * 17},
        {"text": "a", "people": ["S*"]},
        {"text": "a", "people": [{}]},
        {"text": "a", "people": [{"marker": "(x)"}]},
        {"text": "a", "people": [{"marker": ["S*"]}]},
        {"text": "a", "people": [{"marker": "S*", "words": 0}]},
        {"text": "a", "people": [{"marker": "S*", "words": True}]},
        {"text": "a", "people": [{"marker": "S*", "words": 76}]},
        {"text": "(" * 200 + ")" * 200},
        {"text": "(a:inf)"},
    ],
)
def test_what_is_wrong_with_a_prompt_is_said(page, f2d_error, body):
    with pytest.raises(f2d_error) as raised:
        page.tokens(body)
    assert "\n" not in str(raised.value)


def test_a_run_is_read_from_its_folder(host, page):
    folder = host.base / "output" / "face2diffusion" / "runs" / "seen"
    (folder / "previews").mkdir(parents=True)
    rows = [{"kind": "train", "step": i, "loss": 2 * i, "foreground": i, "background": i} for i in range(1, 1001)]
    rows += [{"kind": "validation", "step": 1000, "loss": 0.5, "foreground": float("nan"), "background": 0.25}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"kind": "tr')
    for step in range(20):
        (folder / "previews" / f"step_{step:09}.png").write_bytes(b"")

    found = page.training({"run": "seen"})

    assert found["step"] == 1000 and len(found["curve"]) == 334
    assert found["curve"][0] == {"step": 3, "loss": 4, "foreground": 2, "background": 2}
    assert found["curve"][-1]["step"] == 1000
    assert found["validation"] == [{"step": 1000, "loss": 0.5, "background": 0.25}]  # JSON has no NaN
    assert [file["filename"] for file in found["previews"]] == [f"step_{i:09}.png" for i in range(8, 20)]
    assert found["previews"][0]["subfolder"] == "face2diffusion/runs/seen/previews"
    assert found["previews"][0]["type"] == "output"
    nothing = {"run": "not begun", "step": 0, "curve": [], "validation": [], "previews": []}
    assert page.training({"run": "not begun"}) == nothing


@pytest.mark.parametrize("run", ["", "..", "../runs", "a/b", "a\\b", "/etc", "con", "x\0", "x" * 200])
def test_a_run_outside_of_the_folder_is_refused(page, f2d_error, run):
    with pytest.raises(f2d_error, match="run name"):
        page.training({"run": run})


def test_answers_and_mistakes_as_json(request_of, f2d_error):
    def fail(values):
        raise f2d_error("found, expected, do")

    assert request_of("GET", lambda query: {"got": query}, query={"a": "1"}) == (200, {"got": {"a": "1"}})
    assert request_of("POST", lambda body: body, b'{"a": [1]}') == (200, {"a": [1]})
    assert request_of("POST", fail, b"{}") == (400, {"error": "found, expected, do"})


def test_our_own_mistake_is_told_without_its_details(request_of, caplog):
    status, answer = request_of("GET", lambda query: query["none"])

    assert status == 500 and answer["error"].startswith("KeyError")
    assert "could not be answered" in caplog.text


@pytest.mark.parametrize(
    "data, status",
    [
        (b"", 400),
        (b"{", 400),
        (b"[1]", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"a": "' + b"x" * 1024 * 1024 + b'"}', 413),
    ],
)
def test_bodies_that_are_none(request_of, data, status):
    found, answer = request_of("POST", lambda body: body, data)
    assert found == status and answer["error"]


def test_other_sites_and_forms_are_refused(request_of):
    def post(**more):
        return request_of("POST", lambda body: body, b"{}", **more)[0]

    assert post(content_type="text/plain") == 415
    assert post(**{"Sec-Fetch-Site": "cross-site"}) == 403 and post(**{"Sec-Fetch-Site": "same-site"}) == 403
    assert post(**{"Sec-Fetch-Site": "same-origin"}) == 200


def test_faces_to_pick_name_the_picture_and_every_number(host, run_node):
    import numpy as np

    picking, detect = host.pack_module("nodes.picking"), host.pack_module("f2d_core.detect")
    small = detect.Face((10.0, 10.0, 30.0, 30.0), np.zeros((5, 2)), 0.9)
    large = detect.Face((50.0, 40.0, 150.0, 140.0), np.zeros((5, 2)), 0.8)
    rgb = np.zeros((1000, 2000, 3), np.uint8)

    (shown,) = picking.faces_to_pick([rgb], [detect.Detection((large, small), "as is", "x")])["f2d_faces"]

    assert (shown["width"], shown["height"]) == (2000, 1000)
    assert [face["index"]["largest"] for face in shown["faces"]] == [0, 1]
    assert [face["index"]["left-right"] for face in shown["faces"]] == [1, 0]
    from PIL import Image

    with Image.open(host.base / "temp" / shown["image"]["filename"]) as copy:
        assert copy.size == (768, 384)
    json.dumps(shown)
    assert len(picking.faces_to_pick([rgb] * 70, [detect.Detection((), "none", "x")] * 70)["f2d_faces"]) == 64
