"""The routes of the identity library, of the doctor and of fetching: what they answer, and what they refuse."""

import base64
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import load_file

from f2d_core.s_star import SStar, load_s_star, save_s_star
from f2d_core.testing import tiny_msid_state_dict
from tests.support import base_directory
from tests.support.extractors import write_tiny_adaface


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments):
        pass


@pytest.fixture
def answer(host):
    """answer("POST", "/f2d/…", values) -> what the route's function gives."""
    routes = {(route.method, route.path): route.answer for route in host.pack_module("nodes.routes").ROUTES}
    return lambda method, path, **values: routes[method, path](values)


@pytest.fixture
def errors(host):
    return host.pack_module("f2d_core.errors")


@pytest.fixture
def anna(host):
    folder = host.base / "models" / "face2diffusion" / "identities"
    thumbnail = torch.full((112, 112, 3), 90, dtype=torch.uint8)
    path = save_s_star(
        SStar(torch.ones(2, 768), "Anna", thumbnail=thumbnail, licence="CC0"), folder / "anna.safetensors"
    )
    yield path
    for file in folder.glob("*"):
        file.unlink()


def test_the_list(answer, anna):
    entries = answer("GET", "/f2d/identities")["entries"]  # other tests of this process save people, too
    (entry,) = [entry for entry in entries if entry["file"] == "anna.safetensors"]

    assert (entry["file"], entry["name"], entry["licence"]) == ("anna.safetensors", "Anna", "CC0")
    assert entry["thumbnail"].startswith("data:image/jpeg;base64,") and len(entry["thumbnail"]) < 20_000
    assert entry["needs_position"] is True
    assert f"checkpoints/{base_directory.CHECKPOINT}" in answer("GET", "/f2d/identities")["text_encoders"]


def test_rename_import_data_delete(answer, anna):
    data = answer("GET", "/f2d/identities/data", file="anna.safetensors")
    assert data["name"] == "anna.safetensors" and base64.b64decode(data["data"]) == anna.read_bytes()

    assert answer("POST", "/f2d/identities/rename", file="anna.safetensors", name="berta") == {
        "file": "berta.safetensors"
    }
    assert answer("POST", "/f2d/identities/import", **data) == {"file": "anna.safetensors"}
    assert answer("POST", "/f2d/identities/import", **data) == {"file": "anna_2.safetensors"}
    assert answer("POST", "/f2d/identities/delete", file="anna.safetensors") == {"file": "anna.safetensors"}
    assert sorted(file.name for file in anna.parent.iterdir()) == ["anna_2.safetensors", "berta.safetensors"]
    assert load_s_star(anna.with_name("berta.safetensors")).name == "berta"


def test_an_export_is_exact_at_the_position_asked_for(answer, anna, host, small_models):
    text_encoder = f"checkpoints/{base_directory.CHECKPOINT}"
    values = {"file": "anna.safetensors", "name": "anna lib", "position": 4, "text_encoder": text_encoder}

    found = answer("POST", "/f2d/identities/export", **values)
    again = answer("POST", "/f2d/identities/export", **values)

    assert (found, again["embedding"]) == ({"embedding": "anna_lib", "exact_at": 4}, "anna_lib_2")  # never overwritten
    table = small_models[1].cond_stage_model.clip_l.transformer.text_model.embeddings.position_embedding.weight
    exported = load_file(host.base / "models" / "embeddings" / "anna_lib.safetensors")["clip_l"]
    torch.testing.assert_close(exported, torch.ones(2, 768) - table[4:6].float().cpu())


@pytest.mark.parametrize(
    ("path", "values", "message"),
    [
        ("rename", {"file": "anna.safetensors", "name": "../x"}, "cannot be a file name"),
        ("rename", {"file": "../anna.safetensors", "name": "x"}, "no identity file of the library"),
        ("rename", {"file": "anna.safetensors", "name": "美" * 100}, "cannot be a file name"),
        ("rename", {"file": "x" * 300 + ".safetensors", "name": "x"}, "is not in the identities folder"),
        ("delete", {"file": "x" * 300 + ".safetensors"}, "is not in the identities folder"),
        ("rename", {"file": 3, "name": "x"}, "file is int, expected a text"),
        ("delete", {"file": "/etc/passwd"}, "no identity file of the library"),
        ("delete", {}, "file is NoneType"),
        ("import", {"name": "x.safetensors", "data": "no base64!"}, "not base64"),
        ("import", {"name": "x.safetensors", "data": "aaaa"}, "x.safetensors"),
        ("export", {"file": "anna.safetensors", "name": "x", "position": "4"}, "which token of the prompt"),
        ("export", {"file": "anna.safetensors", "name": "x", "position": True}, "which token of the prompt"),
        ("export", {"file": "anna.safetensors", "name": "x", "position": 4, "text_encoder": "../x"}, "is not there"),
        ("export", {"file": "anna.safetensors", "name": "x", "position": 4, "text_encoder": "loras/x"}, "is not there"),
        ("export", {"file": "anna.safetensors", "name": "a/b", "position": 4}, "cannot be a file name"),
    ],
)
def test_what_is_refused(answer, anna, errors, path, values, message):
    with pytest.raises(errors.F2DError, match=message):
        answer("POST", f"/f2d/identities/{path}", **values)
    assert [file.name for file in anna.parent.iterdir()] == ["anna.safetensors"]


def test_which_weights_are_there(answer, host, stand_ins):
    rows = {row["kind"]: row for row in answer("GET", "/f2d/weights")["files"]}

    assert rows["msid"]["here"] and not rows["clip_h14"]["here"]
    assert rows["msid"]["fetchable"] and not rows["recon"]["fetchable"]
    assert (rows["msid"]["megabytes"], rows["msid"]["commercial"]) == (85.8, False)
    assert "CC BY-NC-SA 4.0" in rows["msid"]["licence"]


@pytest.fixture
def two_folders(host, tmp_path, monkeypatch):
    """Two empty model folders in the place of the host's."""
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    known = host.folder_paths.folder_names_and_paths
    monkeypatch.setitem(known, "face2diffusion", ([str(folder) for folder in folders], known["face2diffusion"][1]))
    return folders


def here(answer):
    return {row["kind"] for row in answer("GET", "/f2d/weights")["files"] if row["here"]}


def test_weights_under_other_names_and_in_folders_below_are_there(answer, two_folders):
    assert here(answer) == set()
    (two_folders[1] / "mine" / "judge").mkdir(parents=True)
    torch.save(tiny_msid_state_dict(), two_folders[1] / "mine" / "encoder.ckpt")
    write_tiny_adaface(two_folders[1] / "mine" / "judge" / "model.bin")
    assert here(answer) == {"msid", "adaface_ir50"}

    (two_folders[1] / "mine" / "judge" / "model.bin").unlink()
    (two_folders[0] / "mapping.pt").write_bytes(b"damaged")  # a loader takes it, and says so
    assert here(answer) == {"msid", "mapping"}


def test_a_judge_is_not_known_by_its_name(answer, two_folders):
    for name in ("model.safetensors", "open_clip_model.safetensors"):
        save_s_star(SStar(torch.ones(2, 768)), two_folders[0] / name)
    with open(two_folders[1] / "open_clip_model.safetensors", "wb") as file:
        file.truncate(3_944_500_000)  # a hole of the right size
    assert here(answer) == set()


def test_a_new_person_hides_nobody_in_another_folder(answer, two_folders, run_node):
    anna = SStar(torch.ones(2, 768), "Anna")
    save_s_star(anna, two_folders[1] / "identities" / "anna.safetensors")

    assert run_node("F2DSaveSStar", s_star=(anna,), filename="anna")[0] == "anna_2.safetensors"
    data = answer("GET", "/f2d/identities/data", file="anna_2.safetensors")["data"]
    assert answer("POST", "/f2d/identities/import", name="anna.safetensors", data=data) == {
        "file": "anna_3.safetensors"
    }
    assert sorted(file.name for file in (two_folders[0] / "identities").iterdir()) == [
        "anna_2.safetensors",
        "anna_3.safetensors",
    ]


def test_a_file_is_fetched_when_asked_for(answer, host, errors, tmp_path, monkeypatch):
    folder = tmp_path / "fetched"
    monkeypatch.setattr(host.pack_module("nodes.host"), "model_folders", lambda: [folder])
    torch.save(tiny_msid_state_dict(), tmp_path / "msid.pt")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        answer("POST", "/f2d/fetch", kind="msid", mirror=f"http://127.0.0.1:{server.server_port}")
        deadline = time.monotonic() + 30
        while (state := answer("GET", "/f2d/fetch")["fetches"][0])[
            "state"
        ] == "running" and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

    assert (state["kind"], state["state"], state["error"]) == ("msid", "done", "")
    assert (folder / "msid.pt").read_bytes() == (tmp_path / "msid.pt").read_bytes()
    assert answer("POST", "/f2d/fetch/stop", kind="mapping") == {}
    with pytest.raises(errors.SettingsError, match="no web address"):
        answer("POST", "/f2d/fetch", kind="msid", mirror="file:///etc")
    with pytest.raises(errors.DownloadError, match="cannot be fetched"):
        answer("POST", "/f2d/fetch", kind="recon")


def test_the_report(answer, host, run_node, stand_ins):
    found = answer("GET", "/f2d/doctor")

    assert found["passed"] and found["picture"].startswith("data:image/png;base64,")
    assert found["text"].startswith("Face2Diffusion ") and "\nComfyUI " in found["text"]
    assert str(host.base) not in found["text"] and "face2diffusion/msid.pt" in found["text"]
    assert {item["kind"] for item in found["found"]} >= {"msid", "mapping", "recon"}

    text, picture = run_node("F2DDoctor")
    assert text == found["text"]
    assert picture.shape == (1, 224, 688, 3) and 0 <= float(picture.min()) < float(picture.max()) <= 1
