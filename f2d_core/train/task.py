"""What is trained: features -> f_map -> S* -> text encoder -> denoiser -> loss (Face2Diffusion 3.3, 3.4).

The trainer asks for batches by step and slot, and gets losses; it knows none of the models in here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction

import torch

from ..constants import CGDR, DEFAULT_MARKER, OF_VELOCITY, WEIGHTS_FORMAT, WEIGHTS_FORMAT_VERSION
from ..data.samples import Samples
from ..errors import MismatchError, SettingsError
from ..mapping import MappingConfig, MappingNetwork, mapping_config
from ..ports import Denoiser, LatentCodec, TrainableTextEncoder, TrainingData, TripletData
from ..prompt import find_markers, replace_markers
from ..state_dict import StateDict, check_state_dict
from .config import TrainConfig, with_sizes
from .losses import Losses, denoising_losses, word_penalty
from .mixture import Mixture
from .presets import method_of
from .randomness import NOISE, POSTERIOR, VALIDATION, Choices, Recipe, draw, image_of, normals
from .schedule import Constant
from .state import Group, Optimisation

CLASS_PASS_FACTOR = 4  # a pass without gradient takes about an eighth of the memory of one with
_PROMPTS_AT_ONCE = 16
_LEAST_SHARE = 1e-6  # where a schedule ends in noise alone, both errors are 0


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

    images: what messages call them: numbers in the data set. z_t, noise, eps_c: (B, 4, h, w). mask: (B, 1, h, w).
    keep_expression: (B,). dropout: (B, words, layers, hidden) or None. eps_c: the class prompt's prediction, None until
    `guide` adds it, and zeros for triplets. With triplets: prompts, those of triplets, empty for photos; weights
    (B, 2), by which figures of photos and of triplets are multiplied, so that their mean over the whole batch is the
    mean over their own kind; NaN where the whole batch has none of it.
    """

    images: Sequence[int | str]
    v_id: torch.Tensor
    v_exp: torch.Tensor
    keep_expression: torch.Tensor
    z_t: torch.Tensor
    t: torch.Tensor
    noise: torch.Tensor
    mask: torch.Tensor
    dropout: torch.Tensor | None = None
    eps_c: torch.Tensor | None = None
    prompts: tuple[str, ...] | None = None
    weights: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def part(self, start: int, size: int) -> Batch:
        """The samples start .. start + size - 1, as views."""
        return replace(self, **{name: value[start : start + size] for name, value in self._given()})

    def at(self, rows: Sequence[int]) -> Batch:
        """The samples at these places, as copies."""
        rows = list(rows)
        tensors = {name: value[rows] for name, value in self._given() if torch.is_tensor(value)}
        lists = {name: tuple(value[i] for i in rows) for name, value in self._given() if not torch.is_tensor(value)}
        return replace(self, **tensors, **lists)

    def _given(self) -> list[tuple[str, Sequence | torch.Tensor]]:
        values = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return [(name, value) for name, value in values if value is not None]


class MappingTask:
    """A mapping network in training, and the way from a slot of a step to its loss.

    start: the weights of a mapping to train further; without them the network starts from random weights that depend
    on the seed alone. triplets: to be learnt whole and with their own prompts, beside the photos (DreamIdentity 3.3).
    Raises MismatchError when data, text encoder and weights do not fit together, SettingsError for a data set that is
    too small, PromptError for prompts of triplets that cannot be encoded.
    """

    figures: tuple[str, ...] = ("loss", "foreground", "background", "word_length")
    together = False
    memory_help = (
        "expected about 1 GB free for each at 512 px. Close other programs, lower micro_batch, or set "
        "gradient_checkpointing."
    )

    def __init__(
        self,
        parts: TrainingParts,
        data: TrainingData,
        config: TrainConfig,
        start: StateDict | None = None,
        triplets: TripletData | None = None,
    ):
        _check_size(data, triplets, config)
        self.parts, self.data, self.triplets = parts, data, triplets
        self._mixture = Mixture(data, triplets, config.hold_out)
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
        self._prompts = {"": self.config.template}
        if triplets is not None:
            self.figures = (*self.figures, "edited")
            self._prompts.update((prompt, _with_marker(prompt, self.config.marker)) for prompt in triplets.prompts)
            self._try_prompts()

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """What learns, by the published key names."""
        return {name: value for name, value in self.network.named_parameters() if value.numel()}

    @property
    def groups(self) -> list[Group]:
        """Weight decay on matrices alone: not on biases, not on null_exp."""
        decayed = {name: value for name, value in self.parameters.items() if value.ndim > 1}
        others = {name: value for name, value in self.parameters.items() if value.ndim <= 1}
        return [Group(decayed, self.config.weight_decay), Group(others, 0.0)]

    @property
    def optimisation(self) -> Optimisation:
        config = self.config
        half = self.parts.denoiser.dtype == torch.float16
        rate = Constant(config.learning_rate)
        return Optimisation(rate, config.beta1, config.beta2, config.grad_clip, config.ema, half)

    def ready_batch(self, step: int, slots: Sequence[int], micro_batch: int) -> Batch:
        """These slots of the batch of step `step`, with the class prompt's prediction where the loss needs it."""
        batch = self.prepare(step, slots)
        return self.guide(batch, max(1, micro_batch * CLASS_PASS_FACTOR)) if self.guided else batch

    def prepare(self, step: int, slots: Sequence[int]) -> Batch:
        """These slots of the batch of step `step`, without the class prompt's prediction."""
        choices = draw(self._recipe, step, slots)
        samples = self._mixture.batch(choices.images, choices.flips)
        seed = self.config.seed
        noise = normals(seed, NOISE, step, slots, self.latent_shape)
        posterior = normals(seed, POSTERIOR, step, slots, self.latent_shape)
        z_0 = samples.latent_mean + (samples.latent_logvar / 2).exp() * posterior
        batch = self._batch(samples, choices, noise, z_0)
        return batch if self.triplets is None else self._with_triplets(batch, samples.prompts, step)

    def _with_triplets(self, batch: Batch, prompts: tuple[str, ...], step: int) -> Batch:
        """`batch` with what only a mixture has. The expression of an edited picture is for its prompt to decide."""
        photo = torch.tensor([not prompt for prompt in prompts], device=self.device, dtype=self.dtype)
        size = self.config.batch
        drawn = [image_of(self._recipe, step * size + slot) for slot in range(size)]
        photos = sum(number < self._mixture.photos for number in drawn)
        kinds = ((photo, photos), (1 - photo, size - photos))
        weights = torch.stack([own * (size / count if count else math.nan) for own, count in kinds], dim=1)
        names = self._mixture.names(batch.images)
        keep = batch.keep_expression * photo
        return replace(batch, images=names, keep_expression=keep, prompts=prompts, weights=weights)

    def fixed(self, images: Sequence[int], timesteps: Sequence[int]) -> Batch:
        """Samples for validation: the same latents and noise for the same image and t, no flip, no dropout."""
        samples = self.data.batch(list(images), [False] * len(images))
        seed = self.config.seed
        pairs = zip(images, timesteps, strict=True)
        noise = torch.cat([normals(seed, VALIDATION, image, [t], self.latent_shape) for image, t in pairs])
        choices = Choices(list(images), [], torch.tensor(timesteps), torch.ones(len(images)), None)
        return self._batch(samples, choices, noise, samples.latent_mean)

    @torch.no_grad()
    def guide(self, batch: Batch, size: int | None = None) -> Batch:
        """`batch` with the class prompt's prediction eps_c (Eq. 6). One conditional pass, no guidance scale.

        size: how many samples at once, None for all. Triplets get zeros: they learn from their picture alone.
        """
        if batch.prompts is None:
            return replace(batch, eps_c=self._class_prediction(batch, size or len(batch)))
        eps_c = torch.zeros_like(batch.z_t)
        photos = [i for i, prompt in enumerate(batch.prompts) if not prompt]
        if photos:
            eps_c[photos] = self._class_prediction(batch.at(photos), size or len(batch))
        return replace(batch, eps_c=eps_c)

    def _class_prediction(self, batch: Batch, size: int) -> torch.Tensor:
        parts = [batch.part(at, size) for at in range(0, len(batch), size)]
        contexts = [self._class_context.expand(len(part), -1, -1) for part in parts]
        predict = self.parts.denoiser.predict_noise
        return torch.cat([predict(part.z_t, part.t, context) for part, context in zip(parts, contexts, strict=True)])

    @property
    def guided(self) -> bool:
        """Whether the loss needs `guide`."""
        return self.config.variant == CGDR

    def words(self, batch: Batch) -> torch.Tensor:
        """S* of the samples: (B, words, width)."""
        if not self.network.config.expression_width:
            return self.network(batch.v_id, None, None, batch.dropout)
        return self.network(batch.v_id, batch.v_exp, batch.keep_expression, batch.dropout)

    def measure(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The figures of the samples, (B,) each; the loss carries the gradient."""
        losses, lengths = self.losses(batch)
        total, foreground, background = losses
        values = [total, foreground, background, lengths.mean(dim=1)]
        if batch.weights is not None:  # all of an edited picture is foreground
            photo, edited = batch.weights.unbind(dim=1)
            values[1:3] = foreground * photo, background * photo
            values.append(foreground * edited)
        return dict(zip(self.figures, values, strict=True))

    def losses(self, batch: Batch) -> tuple[Losses, torch.Tensor]:
        """(losses of the samples, lengths of their words (B, words) without gradient)."""
        words, config = self.words(batch), self.config
        template = config.template if batch.prompts is None else [self._prompts[prompt] for prompt in batch.prompts]
        context = self.parts.encoder.encode_words(template, config.marker, words, config.injection)
        eps_pred = self.parts.denoiser.predict_noise(batch.z_t, batch.t, context)
        losses = denoising_losses(eps_pred, batch.noise, batch.mask, batch.eps_c, config.variant)
        if config.error == OF_VELOCITY:
            losses = losses._replace(total=losses.total / self._picture_share(batch.t))
        if config.l2:
            losses = losses._replace(total=losses.total + config.l2 * word_penalty(words, config.l2_kind))
        return losses, words.detach().norm(dim=-1)

    def _picture_share(self, t: torch.Tensor) -> torch.Tensor:
        """(B,): of the variance of z_t. An error of the noise, squared, is the velocity's times this."""
        one = torch.ones(len(t), 1, 1, 1, device=self.device, dtype=self.dtype)
        signal = self.parts.denoiser.add_noise(one, torch.zeros_like(one), t)
        return signal.flatten().square().clamp(min=_LEAST_SHARE)

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
            "method": method_of(self.config.variant, self.data.facts.get("features", ""), self.triplets is not None),
            **self._facts_of_dreamidentity(),
            "base_model_sha256": self.parts.base_model_sha256,
            "data_fingerprint": self.data.fingerprint,
            "licence": self.config.licence,
            "words": str(self.config.words),
            "width": str(self.parts.encoder.width),
            "step": str(step),
        }

    def _facts_of_dreamidentity(self) -> dict[str, object]:
        """The penalty on words, and what was trained on beside photos; nothing where there is neither."""
        config, facts = self.config, {}
        if config.l2:
            facts |= {"l2": str(config.l2), "l2_kind": config.l2_kind}
        if self.triplets is not None:
            ratio = str(config.aug_ratio) if config.aug_ratio else "as many as there are"
            facts |= {"triplets_fingerprint": self.triplets.fingerprint, "aug_ratio": ratio}
        return facts

    def _try_prompts(self) -> None:
        """Raise PromptError now, not in the middle of a run."""
        config, texts = self.config, list(self._prompts.values())
        words = torch.zeros(1, config.words, self.parts.encoder.width, device=self.device, dtype=self.dtype)
        with torch.no_grad():
            for at in range(1, len(texts), _PROMPTS_AT_ONCE):
                some = [config.template, *texts[at : at + _PROMPTS_AT_ONCE]]
                batch = words.expand(len(some), -1, -1)
                self.parts.encoder.encode_words(some, config.marker, batch, config.injection)

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
            images=self._mixture.photos,
            triplets=self._mixture.triplets,
            share=Fraction(str(config.aug_ratio)) if config.aug_ratio and self.triplets is not None else None,
            timesteps=self.parts.denoiser.steps,
            flip=config.flip,
            expression_drop=config.expression_drop,
            dropout=config.dropout,
            dropout_shape=(config.words, config.layers, config.hidden),
        )


def _with_marker(prompt: str, marker: str) -> str:
    return replace_markers(prompt, find_markers(prompt, [DEFAULT_MARKER]), [marker])


def _check_size(data: TrainingData, triplets: TripletData | None, config: TrainConfig) -> None:
    if config.aug_ratio and triplets is None:
        raise SettingsError(
            f"aug_ratio is {config.aug_ratio} and there are no editing triplets; expected both or neither. Give "
            "triplets, or leave aug_ratio at 0."
        )
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
