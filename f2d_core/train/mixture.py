"""Photos to reconstruct and editing triplets (DreamIdentity 3.3) as one set of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import torch

from ..data.samples import Samples
from ..errors import MismatchError
from ..ports import TrainingData, TripletData


class Mixture:
    """Numbers below `photos` are photos that are trained on, those from there on are triplets.

    hold_out: photos at the end of their set that are left out. Raises MismatchError for triplets that were prepared
    with another encoder or autoencoder than the photos.
    """

    def __init__(self, photos: TrainingData, triplets: TripletData | None, hold_out: int):
        self.photos = len(photos) - hold_out
        self.triplets = 0 if triplets is None else len(triplets)
        self._photos, self._triplets = photos, triplets
        if triplets is not None:
            _check_fit(photos, triplets)

    def batch(self, numbers: Sequence[int], flips: Sequence[bool]) -> Samples:
        """The samples of these numbers, mirrored where flips are true. The prompt of a photo is empty."""
        if self._triplets is None:
            return self._photos.batch(numbers, flips)
        order = sorted(range(len(numbers)), key=lambda i: numbers[i] >= self.photos)
        count = sum(number < self.photos for number in numbers)
        photos, triplets = order[:count], order[count:]
        return _in_order(
            self._photos.batch([numbers[i] for i in photos], [flips[i] for i in photos]),
            self._triplets.batch([numbers[i] - self.photos for i in triplets], [flips[i] for i in triplets]),
            order,
        )

    def names(self, numbers: Sequence[int]) -> list[int | str]:
        """What messages call the samples of these numbers, after "photos"."""
        return [number if number < self.photos else f"triplet {number - self.photos}" for number in numbers]


def _in_order(photos: Samples, triplets: Samples, order: Sequence[int]) -> Samples:
    """Both, so that the i-th of them all stands at order[i]. Triplets have no expression: their prompt decides it."""
    triplets = replace(triplets, v_exp=triplets.v_id.new_zeros(len(triplets.v_id), photos.v_exp.shape[1]))
    back = torch.tensor(order).argsort()
    names = [field.name for field in fields(Samples) if field.name != "prompts"]
    tensors = {name: torch.cat((getattr(photos, name), getattr(triplets, name)))[back] for name in names}
    prompts = ("",) * len(photos.v_id) + triplets.prompts
    return Samples(**tensors, prompts=tuple(prompts[i] for i in back.tolist()))


def _check_fit(photos: TrainingData, triplets: TripletData) -> None:
    for name, what in (
        ("features", "another kind of features"),
        ("msid_sha256", "another encoder"),
        ("autoencoder_sha256", "another autoencoder"),
    ):
        own, other = photos.facts.get(name, ""), triplets.facts.get(name, "")
        if own and other and own != other:
            raise MismatchError(
                f"The triplets were prepared with {what} ({other:.12}) than the photos ({own:.12}); expected the same. "
                "Prepare one of them again."
            )
    shapes = []
    for data in (photos, triplets):
        first = data.batch([0], [False])
        shapes.append((first.v_id.shape[1], tuple(first.latent_mean.shape[1:])))
    if shapes[0] != shapes[1]:
        raise MismatchError(
            f"The photos have features and latents of sizes {shapes[0]}, the triplets of {shapes[1]}; expected the "
            "same. Prepare both with one encoder and one size."
        )
