"""What is trained: features -> f_map -> S* -> text encoder -> denoiser -> loss (Face2Diffusion 3.3, 3.4).

The trainer asks for batches by step and slot, and gets losses; it knows none of the models in here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch

from ..constants import CGDR, WEIGHTS_FORMAT, WEIGHTS_FORMAT_VERSION
from ..data.samples import Samples
from ..errors import MismatchError, SettingsError
from ..mapping import MappingConfig, MappingNetwork, mapping_config
from ..ports import Denoiser, LatentCodec, TrainableTextEncoder, TrainingData
from ..state_dict import StateDict, check_state_dict
from .config import TrainConfig, with_sizes
from .losses import Losses, denoising_losses
from .randomness import NOISE, POSTERIOR, VALIDATION, Choices, Recipe, draw, normals


@dataclass(frozen=True)
class TrainingParts:
    """The frozen models. codec: only for preview pictures. base_model_sha256: goes into the mapping file."""

    encoder: TrainableTextEncoder
    denoiser: Denoiser
    codec: LatentCodec | None = None
    base_model_sha256: str = ""


@dataclass(frozen=True)
class Batch:
    """B samples on the denoiser's device, ready for the gradient pass; no tensor of it needs a gradient.

    images: their numbers in the data set. z_t, noise, eps_c: (B, 4, h, w). mask: (B, 1, h, w). keep_expression: (B,).
    dropout: (B, words, layers, hidden) or None. eps_c: the class prompt's prediction, None until `guide` adds it.
    """

    images: Sequence[int]
    v_id: torch.Tensor
    v_exp: torch.Tensor
    keep_expression: torch.Tensor
    z_t: torch.Tensor
    t: torch.Tensor
    noise: torch.Tensor
    mask: torch.Tensor
    dropout: torch.Tensor | None = None
    eps_c: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def part(self, start: int, size: int) -> Batch:
        """The samples start .. start + size - 1, as views."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        cut = {name: value[start : start + size] for name, value in values.items() if value is not None}
        return replace(self, **cut)

    def with_class_prediction(self, eps_c: torch.Tensor) -> Batch:
        return replace(self, eps_c=eps_c)


class MappingTask:
    """A mapping network in training, and the way from a slot of a step to its loss.

    start: the weights of a mapping to train further; without them the network starts from random weights that depend
    on the seed alone. Raises MismatchError when data, text encoder and weights do not fit together, SettingsError for
    a data set that is too small.
    """

    def __init__(self, parts: TrainingParts, data: TrainingData, config: TrainConfig, start: StateDict | None = None):
        _check_size(data, config)
        self.parts, self.data = parts, data
        self.device = parts.denoiser.device
        # The mapping, z_t and the loss never use less than fp32.
        self.dtype = torch.promote_types(parts.denoiser.dtype, torch.float32)
        first = data.batch([0], [False])
        sizes = _sizes(first, parts.encoder.width, config) if start is None else mapping_config(start)
        self.config = with_sizes(config, sizes.words, sizes.hidden, sizes.layers)
        _check_fit(first, sizes, parts, self.config)
        self.latent_shape = tuple(first.latent_mean.shape[1:])
        self.network = _network(sizes, start, config.seed).to(self.device, self.dtype)
        self._recipe = self._make_recipe()
        with torch.no_grad():
            self._class_context = parts.encoder.encode_text(self.config.class_prompt)

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """What learns, by the published key names."""
        return {name: value for name, value in self.network.named_parameters() if value.numel()}

    def prepare(self, step: int, slots: Sequence[int]) -> Batch:
        """These slots of the batch of step `step`, without the class prompt's prediction."""
        choices = draw(self._recipe, step, slots)
        samples = self.data.batch(choices.images, choices.flips)
        seed = self.config.seed
        noise = normals(seed, NOISE, step, slots, self.latent_shape)
        posterior = normals(seed, POSTERIOR, step, slots, self.latent_shape)
        return self._batch(samples, choices, noise, samples.latent_mean + (samples.latent_logvar / 2).exp() * posterior)

    def fixed(self, images: Sequence[int], timesteps: Sequence[int]) -> Batch:
        """Samples for validation: the same latents and noise for the same image and t, no flip, no dropout."""
        samples = self.data.batch(list(images), [False] * len(images))
        seed = self.config.seed
        pairs = zip(images, timesteps, strict=True)
        noise = torch.cat([normals(seed, VALIDATION, image, [t], self.latent_shape) for image, t in pairs])
        choices = Choices(list(images), [], torch.tensor(timesteps), torch.ones(len(images)), None)
        return self._batch(samples, choices, noise, samples.latent_mean)

    @torch.no_grad()
    def guide(self, batch: Batch) -> Batch:
        """`batch` with the class prompt's prediction eps_c (Eq. 6). One conditional pass, no guidance scale."""
        context = self._class_context.expand(len(batch), -1, -1)
        return replace(batch, eps_c=self.parts.denoiser.predict_noise(batch.z_t, batch.t, context))

    @property
    def guided(self) -> bool:
        """Whether the loss needs `guide`."""
        return self.config.variant == CGDR

    def words(self, batch: Batch) -> torch.Tensor:
        """S* of the samples: (B, words, width)."""
        if not self.network.config.expression_width:
            return self.network(batch.v_id, None, None, batch.dropout)
        return self.network(batch.v_id, batch.v_exp, batch.keep_expression, batch.dropout)

    def losses(self, batch: Batch) -> tuple[Losses, torch.Tensor]:
        """(losses of the samples, lengths of their words (B, words) without gradient)."""
        words = self.words(batch)
        context = self.parts.encoder.encode_words(
            self.config.template, self.config.marker, words, self.config.injection
        )
        eps_pred = self.parts.denoiser.predict_noise(batch.z_t, batch.t, context)
        losses = denoising_losses(eps_pred, batch.noise, batch.mask, batch.eps_c, self.config.variant)
        return losses, words.detach().norm(dim=-1)

    def facts(self, step: int) -> dict[str, object]:
        """The metadata of a mapping file at this step."""
        return {
            "msid_sha256": "",
            "features": "msid",
            **self.data.facts,
            "format": WEIGHTS_FORMAT,
            "format_version": str(WEIGHTS_FORMAT_VERSION),
            "kind": "mapping",
            "injection": self.config.injection,
            "encoder_key": self.parts.encoder.key,
            "class_word": self.config.class_word,
            "template": self.config.template,
            "variant": self.config.variant,
            "base_model_sha256": self.parts.base_model_sha256,
            "data_fingerprint": self.data.fingerprint,
            "licence": self.config.licence,
            "words": str(self.config.words),
            "width": str(self.parts.encoder.width),
            "step": str(step),
        }

    def _batch(self, samples: Samples, choices: Choices, noise: torch.Tensor, z_0: torch.Tensor) -> Batch:
        z_0, noise, t = self._place(z_0), self._place(noise), choices.t.to(self.device)
        mask = samples.mask if self.config.mask_edge == "soft" else (samples.mask >= 0.5).float()
        return Batch(
            images=choices.images,
            v_id=self._place(samples.v_id),
            v_exp=self._place(samples.v_exp),
            keep_expression=self._place(choices.keep_expression),
            z_t=self.parts.denoiser.add_noise(z_0, noise, t),
            t=t,
            noise=noise,
            mask=self._place(mask),
            dropout=None if choices.dropout is None else self._place(choices.dropout),
        )

    def _place(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.device, self.dtype)

    def _make_recipe(self) -> Recipe:
        config = self.config
        return Recipe(
            seed=config.seed,
            batch=config.batch,
            images=len(self.data) - config.hold_out,
            timesteps=self.parts.denoiser.steps,
            flip=config.flip,
            expression_drop=config.expression_drop,
            dropout=config.dropout,
            dropout_shape=(config.words, config.layers, config.hidden),
        )


def _check_size(data: TrainingData, config: TrainConfig) -> None:
    if len(data) <= config.hold_out:
        raise SettingsError(
            f"The data set has {len(data)} photos and hold_out is {config.hold_out}; expected at least one photo to "
            "train on. Prepare more photos or lower hold_out."
        )


def _sizes(first: Samples, word_width: int, config: TrainConfig) -> MappingConfig:
    expression_width = first.v_exp.shape[1] if config.expression else 0
    if config.expression and not expression_width:
        raise MismatchError(
            "The data set was prepared without expressions and the setting expression is on; expected both or neither. "
            "Prepare it with an expression encoder, or set expression to false."
        )
    return MappingConfig(first.v_id.shape[1], expression_width, config.hidden, config.words, word_width, config.layers)


def _check_fit(first: Samples, sizes: MappingConfig, parts: TrainingParts, config: TrainConfig) -> None:
    expression_width = first.v_exp.shape[1] if config.expression else 0
    for what, found, expected, advice in (
        ("word width", sizes.word_width, parts.encoder.width, "Choose a base model of the family it was trained for"),
        ("identity width", sizes.id_width, first.v_id.shape[1], "Prepare the photos with its own encoder"),
        (
            "expression width",
            sizes.expression_width,
            expression_width,
            "Prepare the photos with its own expressions",
        ),
    ):
        if found != expected:
            raise MismatchError(
                f"The mapping to train further has {what} {found}, text encoder and data set give {expected}. {advice}."
            )
    shapes = {name: tuple(getattr(first, name).shape[-2:]) for name in ("latent_mean", "latent_logvar", "mask")}
    if len(set(shapes.values())) > 1:
        raise MismatchError(f"The data set has latents and masks of sizes {shapes}; expected one. Prepare it again.")


def _network(sizes: MappingConfig, start: StateDict | None, seed: int) -> MappingNetwork:
    with torch.device("meta"):
        network = MappingNetwork(sizes)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    if start is not None:
        check_state_dict(start, shapes, (), "mapping network")
        start = {key: value.clone() for key, value in start.items()}
    network.load_state_dict(start or _initial(shapes, seed), assign=True)
    return network.eval()  # its own dropout is never at work: `draw` gives the factors


def _initial(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    """torch's default of a linear layer, uniform within 1 / sqrt(inputs); null_exp starts at zeros."""
    random = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in shapes.items():
        if key == "null_exp":
            state[key] = torch.zeros(shape)
            continue
        inputs = shapes[key.removesuffix(".bias") + ".weight"][1] if key.endswith(".bias") else shape[1]
        state[key] = (torch.rand(shape, generator=random) * 2 - 1) / inputs**0.5
    return state
