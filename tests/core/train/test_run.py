"""The run folder with a task of a few lines: the loop knows no model, and what a job adds finds its place.

What every run does (stops, refusals, damage, full disks) is seen through mapping runs in test_mapping_run.py.
"""

from dataclasses import asdict, dataclass, replace

import pytest
import torch

from f2d_core.errors import SettingsError, TrainingError
from f2d_core.train.checkpoint import load_checkpoint
from f2d_core.train.distributed import World
from f2d_core.train.metrics import read_metrics
from f2d_core.train.run import Watcher, carry_out, require_samples
from f2d_core.train.schedule import Constant
from f2d_core.train.state import Group, Optimisation, TrainState


@dataclass(frozen=True)
class Settings:
    batch: int = 4
    micro_batch: int | str = 2
    steps: int = 6
    deterministic: bool = False
    tensorboard: bool = False
    checkpoint_every: int = 100
    keep_last: int = 1
    keep_every: int = 0


@dataclass(frozen=True)
class Numbers:
    images: list[int]

    def __len__(self):
        return len(self.images)

    def part(self, start, size):
        return replace(self, images=self.images[start : start + size])


class Slope:
    """Learns w in y = w x from y = 3 x."""

    figures, together, memory_help = ("loss", "w"), False, "expected some."
    optimisation = Optimisation(Constant(0.1), 0.9, 0.999, 10.0)

    def __init__(self):
        self.w = torch.nn.Parameter(torch.zeros(1))
        self.groups = [Group({"w": self.w}, 0.0)]

    def ready_batch(self, step, slots, micro_batch):
        return Numbers([step * 4 + slot for slot in slots])

    def measure(self, batch):
        x = torch.tensor([1.0 + image % 3 for image in batch.images])
        return {"loss": (self.w * x - 3 * x) ** 2, "w": self.w.detach().expand(len(batch))}


class SlopeJob:
    free, folders, curves = {"steps"}, ("notes",), ("loss",)

    def __init__(self, settings, look=lambda moment: []):
        self.task, self.config, self.look = Slope(), settings, look
        self.state = TrainState(self.task.groups, self.task.optimisation)

    def values(self):
        return asdict(self.config)

    def tensors(self):
        return {"w.safetensors": self.state.weights(), "moments.safetensors": self.state.moments()}

    def metadata(self):
        return {"w.safetensors": {"kind": "slope"}}

    def restore(self, checkpoint):
        weights, moments = (checkpoint.tensors[name] for name in ("w.safetensors", "moments.safetensors"))
        self.state.restore(checkpoint.step, weights, {}, moments, checkpoint.scale)

    def write_results(self, folder):
        (folder / "w.txt").write_text(str(float(self.task.w.detach())))


def run(folder, look=lambda moment: [], watcher=None, **changes):
    return carry_out(lambda: SlopeJob(Settings(**changes), look), folder, watcher=watcher)


def test_any_task_learns_stops_and_goes_on(tmp_path):
    done = []
    stopped = run(tmp_path / "cut", watcher=Watcher(done.append, lambda: len(done) == 3))
    assert (stopped.step, stopped.finished) == (3, False)
    assert run(tmp_path / "cut").finished and run(tmp_path / "whole").finished
    texts = [(tmp_path / name / "w.txt").read_text() for name in ("cut", "whole")]
    assert texts[0] == texts[1] and 0.4 < float(texts[0]) < 3
    rows = read_metrics(tmp_path / "cut")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6] and rows[0]["w"] == 0 < rows[5]["w"]
    assert (tmp_path / "cut" / "loss.png").is_file()


def test_lines_that_a_job_adds_are_kept_and_validation_is_told(tmp_path):
    told = []

    def look(moment):
        return [{"kind": "validation", "step": moment.step, "error": 0.5}] if moment.due(2) else []

    run(tmp_path, look, Watcher(told.append), steps=3)
    assert [row["step"] for row in read_metrics(tmp_path) if row["kind"] == "validation"] == [2]
    assert [report.validation for report in told] == [None, {"error": 0.5}, {"error": 0.5}]


def test_an_error_of_a_look_is_raised_after_the_save(tmp_path):
    def look(moment):
        if moment.step == 2:
            raise TrainingError("enough")
        return []

    with pytest.raises(TrainingError, match="enough"):
        run(tmp_path, look)
    assert load_checkpoint(tmp_path / "checkpoints").step == 2
    assert run(tmp_path).finished


def test_a_job_says_what_may_change(tmp_path):
    run(tmp_path, steps=2)
    assert run(tmp_path, steps=4).step == 4
    with pytest.raises(SettingsError, match="batch: 4 -> 8"):
        run(tmp_path, batch=8)


def test_rests_of_a_killed_run_go_from_its_folders(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / ".a.part").write_text("half")
    run(tmp_path, steps=1)
    assert not list((tmp_path / "notes").iterdir())


def test_more_processes_than_samples_are_refused():
    require_samples(3, World(0, 3))
    with pytest.raises(SettingsError, match="batch is 2 for 3 processes"):
        require_samples(2, World(0, 3))
