"""The judge of faces: is there one, and where are its five points. Fulfils `ports.Detector`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..detect import Face
from .autoencoder import to_tensor
from .convnet import ConvNet
from .job import Rows, fast

CELL_PX = 8
_REACH_PX = 16.0  # what the network's offsets of points are multiplied with


class FinderNet(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> (B, 11, H / 8, W / 8): how sure it is of a face whose middle is in the cell, and the
    five points from the middle of the cell, x and y after one another, in reaches."""

    def __init__(self, channels: tuple[int, int, int, int] = (32, 64, 96, 128)):
        super().__init__()
        self.body = ConvNet(channels)
        self.head = nn.Sequential(nn.GroupNorm(8, channels[-1]), nn.SiLU(), nn.Conv2d(channels[-1], 11, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(pixels))


# numbers -> ((n, S, S, 3) uint8, the points of the faces in each picture: (faces, 5, 2) px)
Marked = Callable[[Sequence[int]], tuple[np.ndarray, Sequence[np.ndarray]]]


class FinderLesson:
    """A `job.Lesson`."""

    figures = ("loss", "sure", "points")

    def __init__(self, net: FinderNet, marked: Marked, batch: int):
        self.modules = {"finder": net}
        self._net, self._marked, self._batch = net, marked, batch

    def rows(self, step: int, slots: range) -> Rows:
        numbers = [step * self._batch + slot for slot in slots]
        pixels, points = self._marked(numbers)
        there, offsets = targets(points, pixels.shape[1] // CELL_PX)
        return Rows(numbers, {"pixels": to_tensor(pixels), "there": there, "offsets": offsets})

    def measure(self, rows: Rows) -> dict[str, torch.Tensor]:
        with fast():
            found = self._net(rows["pixels"])
        found, there = found.float(), rows["there"]
        sure = F.binary_cross_entropy_with_logits(found[:, 0], there, reduction="none").sum(dim=(1, 2))
        off = ((found[:, 1:] - rows["offsets"]).abs().mean(dim=1) * there).sum(dim=(1, 2))
        return {"loss": sure + 4 * off, "sure": sure, "points": off}


def targets(points: Sequence[np.ndarray], cells: int) -> tuple[torch.Tensor, torch.Tensor]:
    """((B, cells, cells) of 0 and 1, (B, 10, cells, cells)) for pictures with these faces."""
    there, offsets = torch.zeros(len(points), cells, cells), torch.zeros(len(points), 10, cells, cells)
    for i, faces in enumerate(points):
        for face in np.asarray(faces, np.float64).reshape(-1, 5, 2):
            x, y = np.clip(((face.mean(axis=0) + 0.5) // CELL_PX).astype(int), 0, cells - 1)
            there[i, y, x] = 1
            offsets[i, :, y, x] = torch.from_numpy(((face - _middle(x, y)) / _REACH_PX).ravel())
    return there, offsets


class Finder:
    """A `ports.Detector` over a trained network."""

    def __init__(self, net: FinderNet, name: str = "miniature finder"):
        self._net, self.name = net.eval(), name

    @torch.no_grad()
    def detect(self, rgb: np.ndarray, threshold: float) -> list[Face]:
        height, width = rgb.shape[:2]
        padded = np.pad(rgb, ((0, -height % CELL_PX), (0, -width % CELL_PX), (0, 0)))
        found = self._net(to_tensor(padded[None]))[0]
        sure = found[0].sigmoid()[None]
        # Of a face between two cells the network is sure, but not of the cell.
        near = (9 * F.avg_pool2d(sure, 3, 1, 1)).clamp(max=1.0)
        peaks = (near >= threshold) & (sure == F.max_pool2d(sure, 3, 1, 1))
        return [_face(found[1:, y, x], near[0, y, x], x, y) for _, y, x in peaks.nonzero().tolist()]


def _face(offsets: torch.Tensor, sure: torch.Tensor, x: int, y: int) -> Face:
    points = offsets.double().reshape(5, 2).numpy() * _REACH_PX + _middle(x, y)
    centre, reach = points.mean(axis=0), 1.6 * np.abs(points - points.mean(axis=0)).max()
    return Face((*(centre - reach).tolist(), *(centre + reach).tolist()), points, float(sure))


def _middle(x: int, y: int) -> np.ndarray:
    return (np.array([x, y]) + 0.5) * CELL_PX - 0.5
