"""Talking to a ComfyUI that is scripted: graphs, choices, and what is said when something is wrong with it."""

import http.server
import io
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from f2d_core.backends import comfyui_server
from f2d_core.backends.comfyui_server import ComfyUIServer, Files, Job, files_there, graph_of, require_address
from f2d_core.errors import NoFaceError, SettingsError
from f2d_core.evaluate.servers import Interrupted, MemoryFull, Unreachable
from f2d_core.image import write_png
from f2d_core.ports import PictureRequest, Sampling

COMBO = {"CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [["a.ckpt", "sub/b.safetensors"], {}]}}}}
for _name in ("F2DLoadMSIDEncoder", "F2DLoadMapping"):
    COMBO[_name] = {"input": {"required": {"file": ["COMBO", {"options": [f"{_name}.pt"]}]}}}
NODES = {name: {} for name in (*comfyui_server._STOCK, *comfyui_server._OURS)} | COMBO


def without(name):
    return {key: value for key, value in NODES.items() if key != name}


def png():
    file = io.BytesIO()
    Image.fromarray(np.full((16, 24, 3), 7, np.uint8)).save(file, format="PNG")
    return file.getvalue()


class Scripted:
    """answers: "METHOD /path" -> (status, content); asked: what was sent."""

    def __init__(self):
        self.asked = []
        self.lacking = {}  # "METHOD /path" -> bytes of the answer that are promised and never sent
        self.answers = {
            "GET /system_stats": (200, {"system": {}}),
            "GET /object_info": (200, NODES),
            "GET /queue": (200, {"queue_running": [], "queue_pending": []}),
            "POST /upload/image": (200, {"name": "x.png", "subfolder": "f2d_evaluate", "type": "input"}),
            "POST /prompt": (200, {"prompt_id": "t1"}),
            "GET /history/t1": (200, {"t1": done()}),
            "GET /view": (200, png()),
            "POST /queue": (200, b""),
            "POST /interrupt": (200, b""),
            "POST /free": (200, b""),
        }

    def bodies(self, path):
        return [body for asked, body in self.asked if asked == path]


def done(kind="execution_success", event=None, outputs=None):
    shown = {"shown": {"images": [{"filename": "x.png", "subfolder": "", "type": "temp"}]}}
    return {"status": {"messages": [[kind, event or {}]]}, "outputs": shown if outputs is None else outputs}


@pytest.fixture
def scripted():
    script = Scripted()

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = f"{self.command} {self.path.partition('?')[0]}"
            script.asked.append((path, body))
            status, content = script.answers.get(path, (404, b"nothing here"))
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.send_header("Content-Length", str(len(data) + script.lacking.get(path, 0)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = answer

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        script.address = f"127.0.0.1:{running.server_address[1]}"
        yield script
        running.shutdown()


@pytest.fixture
def job(tmp_path):
    photo = write_png(tmp_path / "Änne.png", np.full((20, 30, 3), 9, np.uint8))
    return Job(photo, PictureRequest("S* as a chef", 5, negative="bad"), Sampling(steps=4, cfg=3.0), Files("a.ckpt"))


@pytest.fixture
def connected(scripted):
    found = ComfyUIServer(scripted.address, lambda work: work, client="me")
    found.connect()
    return found


def test_a_picture_from_photo_to_pixels(scripted, connected, job):
    ticket = connected.submit(job)
    assert connected.result(ticket).tolist() == np.full((16, 24, 3), 7).tolist()
    connected.submit(job)
    (upload,) = scripted.bodies("POST /upload/image")  # once for both
    content = upload.split(b"\r\n\r\n")[-1].partition(b"\r\n--")[0]
    assert np.asarray(Image.open(io.BytesIO(content))).tolist() == np.full((20, 30, 3), 9).tolist()
    assert b'name="subfolder"\r\n\r\nf2d_evaluate' in upload and b'name="overwrite"\r\n\r\ntrue' in upload
    sent = json.loads(scripted.bodies("POST /prompt")[0])
    assert sent["client_id"] == "me"
    assert sent["prompt"] == graph_of(
        "f2d_evaluate/x.png", job, Files("a.ckpt", "F2DLoadMSIDEncoder.pt", "F2DLoadMapping.pt")
    )


def test_the_graph_says_what_the_job_does(job):
    graph = graph_of("x.png", job, Files("c", "m", "f"))
    inputs = {name: node["inputs"] for name, node in graph.items()}
    expected = {"seed": 5, "steps": 4, "cfg": 3.0, "sampler_name": "euler_ancestral", "scheduler": "normal"}
    expected |= {"denoise": 1.0, "positive": ["person", 0]}
    assert inputs["sampled"] | expected == inputs["sampled"]
    assert inputs["person"]["text"] == "S* as a chef" and inputs["away"]["text"] == "bad"
    assert (inputs["model"]["ckpt_name"], inputs["msid"]["file"], inputs["mapping"]["file"]) == ("c", "m", "f")
    assert inputs["noise"] == {"width": 512, "height": 512, "batch_size": 1}
    links = [value for node in inputs.values() for value in node.values() if isinstance(value, list)]
    assert all(name in graph for name, _ in links)


@pytest.mark.parametrize(
    ("sampler", "steps", "count", "expected"),
    [("euler_ancestral", 30, 6, 5.5 / 29), ("ddim", 30, 7, 1 - (793 + 760) / 2 / 999)],
)
def test_delayed_conditioning_is_two_ranges(tmp_path, sampler, steps, count, expected):
    """ComfyUI's ddim_uniform has 31 steps for 30: 1, 34, … 991; the first 7 of them see the class word."""
    request = PictureRequest("(S*:1.2) as a chef", 0, subject_steps=0.8)
    graph = graph_of("x.png", Job(tmp_path, request, Sampling(sampler, steps), Files()), Files())
    inputs = {name: node["inputs"] for name, node in graph.items()}
    assert inputs["class"]["text"] == "(a person:1.2) as a chef"
    assert (inputs["early"]["start"], inputs["late"]["end"]) == (0.0, 1.0)
    assert inputs["early"]["end"] == inputs["late"]["start"] == pytest.approx(expected)
    timesteps = comfyui_server._timesteps(Sampling(sampler, steps))
    assert sum(1 - t / 999 < inputs["early"]["end"] for t in timesteps) == count
    assert inputs["sampled"]["positive"] == ["both", 0]
    assert (inputs["both"]["conditioning_1"], inputs["both"]["conditioning_2"]) == (["early", 0], ["late", 0])


@pytest.mark.parametrize(
    ("text", "address"),
    [("pc:8188", "http://pc:8188"), (" http://a.b:1/ ", "http://a.b:1"), ("https://x/y", "https://x/y")],
)
def test_addresses(text, address):
    assert require_address(text) == address


@pytest.mark.parametrize("text", ["", "a b:1", "ftp://x", "x:port", "http://", "x:1?y", "x:1#y", "x\n:1"])
def test_addresses_that_are_none(text):
    with pytest.raises(SettingsError, match="is no address; expected for example 127.0.0.1:8188"):
        require_address(text)


def test_nobody_there():
    with pytest.raises(Unreachable, match="127.0.0.1:1 does not answer"):
        ComfyUIServer("127.0.0.1:1", None).connect()


@pytest.mark.parametrize(
    ("path", "answer", "error", "message"),
    [
        ("GET /system_stats", (200, b"<html>"), SettingsError, "answers, but not as ComfyUI does. Check the address"),
        ("GET /system_stats", (200, [1]), SettingsError, "not as ComfyUI does"),
        ("GET /system_stats", (200, {}), SettingsError, "is not a ComfyUI server"),
        ("GET /system_stats", (404, b""), SettingsError, "/system_stats answers HTTP 404; expected ComfyUI's API"),
        ("GET /system_stats", (302, b""), SettingsError, "answers HTTP 302"),
        ("GET /system_stats", (503, b""), Unreachable, r"has trouble \(HTTP 503\)"),
        ("GET /object_info", (200, without("F2DInject")), SettingsError, "no node F2DInject. Install this pack there"),
        ("GET /object_info", (200, without("KSampler")), SettingsError, "no node KSampler. Update ComfyUI"),
    ],
)  # fmt: skip
def test_what_is_no_comfyui_of_ours(scripted, path, answer, error, message):
    scripted.answers[path] = answer
    with pytest.raises(error, match=message):
        ComfyUIServer(scripted.address, None).connect()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            Files(),
            r"has several files for checkpoint; it has a.ckpt, sub/b.safetensors. Name one of them with --checkpoint",
        ),
        (Files("x"), r'has no checkpoint "x"; it has a.ckpt'),
        (Files("a.ckpt", "y.pt"), r'has no msid "y.pt"; it has F2DLoadMSIDEncoder.pt'),
    ],
)
def test_files_that_are_not_there(connected, job, files, message):
    with pytest.raises(SettingsError, match=message):
        connected.submit(Job(job.photo, job.request, job.sampling, files))


def test_files_are_found_without_their_folder(connected):
    assert connected._choice("checkpoint", "b.safetensors") == "sub/b.safetensors"


def test_the_first_server_that_answers_says_which_files_are_meant(scripted):
    absent, there = (ComfyUIServer(address, None) for address in ("127.0.0.1:1", scripted.address))
    wanted = {"a": Files("b.safetensors")}
    found = Files("sub/b.safetensors", "F2DLoadMSIDEncoder.pt", "F2DLoadMapping.pt")
    assert files_there([absent, there], wanted) == {"a": found}
    assert files_there([absent], wanted) == wanted
    with pytest.raises(SettingsError, match='has no checkpoint "x"'):
        files_there([there], {"a": Files("x")})


def test_a_server_without_files(scripted):
    scripted.answers["GET /object_info"] = (
        200,
        NODES | {"F2DLoadMapping": {"input": {"required": {"file": ["COMBO"]}}}},
    )
    found = ComfyUIServer(scripted.address, None)
    found.connect()
    with pytest.raises(SettingsError, match="has no mapping; it has none"):
        found._choice("mapping", "")


def test_refused_work_is_told(scripted, connected, job):
    refusal = {"error": {"message": "no"}, "node_errors": {"7": {"class_type": "KSampler", "errors": [
        {"message": "bad", "details": "steps: 0 smaller than min"}]}}}  # fmt: skip
    scripted.answers["POST /prompt"] = (400, refusal)
    with pytest.raises(SettingsError, match="refused the work: KSampler: steps: 0 smaller than min"):
        connected.submit(job)
    scripted.answers["POST /prompt"] = (400, {"error": {"message": "no outputs"}, "node_errors": {}})
    with pytest.raises(SettingsError, match="refused the work: no outputs"):
        connected.submit(job)
    scripted.answers["POST /prompt"] = (400, b"what?")
    with pytest.raises(SettingsError, match="refused the work: what"):
        connected.submit(job)


def failed(kind, message="x\n y"):
    event = {"node_type": "KSampler", "exception_type": kind, "exception_message": message}
    return done("execution_error", event, {})


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        (failed("torch.OutOfMemoryError"), MemoryFull, "x y"),
        (failed("RuntimeError", "Allocation on device 0 would exceed"), MemoryFull, "Allocation"),
        (failed("pack.errors.NoFaceError"), NoFaceError, "Änne.png, on http://.*, node KSampler: x y"),
        (failed("ValueError"), SettingsError, "node KSampler: x y"),
        (done("execution_interrupted"), Interrupted, "stopped on"),
        (done(outputs={}), Interrupted, "gave no picture"),
    ],
)
def test_work_that_fails(scripted, connected, job, entry, error, message):
    ticket = connected.submit(job)
    scripted.answers["GET /history/t1"] = (200, {"t1": entry})
    with pytest.raises(error, match=message):
        connected.result(ticket)


def test_a_server_that_was_restarted_is_noticed(scripted, connected, job, monkeypatch):
    monkeypatch.setattr(comfyui_server, "LOOK_EVERY_S", 0.0)
    ticket = connected.submit(job)
    scripted.answers["GET /history/t1"] = (200, {})
    scripted.answers["GET /queue"] = (200, {"queue_running": [], "queue_pending": [[1, "t1", {}, {}]]})
    assert connected.result(ticket) is None
    scripted.answers["GET /queue"] = (200, {"queue_running": [], "queue_pending": []})
    with pytest.raises(Unreachable, match="was restarted"):
        connected.result(ticket)


def test_what_a_killed_run_left_is_taken_back_and_nothing_of_others(scripted):
    entries = [[1, "own", {}, {"client_id": "me"}], [2, "other", {}, {"client_id": "you"}], [3, "plain", {}, {}]]
    scripted.answers["GET /queue"] = (200, {"queue_running": entries[:1], "queue_pending": entries[1:]})
    ComfyUIServer(scripted.address, None, client="me").connect()
    assert [json.loads(body) for body in scripted.bodies("POST /queue")] == [{"delete": ["own"]}]
    assert [json.loads(body) for body in scripted.bodies("POST /interrupt")] == [{"prompt_id": "own"}]


def test_memory_is_freed(scripted, connected):
    connected.free_memory()
    assert json.loads(scripted.bodies("POST /free")[0]) == {"unload_models": True, "free_memory": True}


@pytest.mark.parametrize("path", ["GET /view", "GET /history/t1"])
def test_an_answer_that_breaks_off_means_that_the_server_is_gone(scripted, connected, job, path):
    """It was killed while it answered: its work goes to others, and the picture is not taken for damaged."""
    scripted.lacking[path] = 10
    with pytest.raises(Unreachable, match="broke off its answer"):
        connected.result(connected.submit(job))


def test_a_proxy_of_the_environment_is_not_asked(scripted, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    ComfyUIServer(scripted.address, None).connect()


def test_a_photo_that_cannot_be_read(connected, job):
    with pytest.raises(Exception, match="does not exist"):
        connected.submit(Job(Path("nowhere.png"), job.request, job.sampling, job.files))
