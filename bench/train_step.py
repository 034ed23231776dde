"""What a training step costs, next to the same step written plainly.

    python bench/train_step.py [--repeats 7]
    python bench/train_step.py --full          on a GPU: Stable Diffusion 1.x at full size, 512 px, bf16

Everything that is compared runs in turn within one process, on the same models (random weights), with the same batch
size and number of threads, in fp32 on the CPU; the figures are medians. The models are Stable Diffusion 1.x at 0.3
times the width and half the side: a UNet of 96 channels for latents of 32 x 32, an autoencoder of 36 channels (38.4
would be in proportion), a text encoder of width 256 with two layers.

  ours        Trainer.step of f2d_core.train on a cache of prepared photos: draws, class pass, gradient pass, update
  bare        no trainer at all: class pass, forward, backward to the context, on tensors that are ready
  plain       baseline (a): a plain diffusers loop. Encodes the pictures with the autoencoder every step and
              checkpoints the UNet, which is frozen; both prompts are encoded every step and go in separate passes,
              the class one without gradient; torch's own AdamW
  joined      ours with both prompts in one pass of twice the batch, with gradient
  trainable   baseline (b): no checkpointing, the UNet left trainable, the class pass kept in the graph. Only its
              bytes kept for backward are compared: what autograd saves, weights not counted
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # a script, run without installing anything

from f2d_core.backends.diffusers import load_tokenizer  # noqa: E402
from f2d_core.backends.diffusers_training import DiffusersDenoiser, DiffusersTrainableText  # noqa: E402
from f2d_core.backends.stand_in import write_letter_tokenizer  # noqa: E402
from f2d_core.constants import WORD_WIDTHS  # noqa: E402
from f2d_core.data.cache import Cache, Made, Photo  # noqa: E402
from f2d_core.data.settings import PrepareSettings  # noqa: E402
from f2d_core.data.writer import CacheWriter  # noqa: E402
from f2d_core.train import TrainConfig, TrainingParts  # noqa: E402
from f2d_core.train.state import TrainState  # noqa: E402
from f2d_core.train.task import MappingTask  # noqa: E402
from f2d_core.train.trainer import Trainer  # noqa: E402

BATCH, SIDE, PHOTOS = 4, 32, 32
WIDTH, ID_WIDTH, EXPRESSION_WIDTH, HIDDEN = 256, 512, 64, 512
SMALL_UNET = (96, 192, 384, 384)
FULL_UNET = (320, 640, 1280, 1280)
FULL_MICRO_BATCHES = (1, 4, 8, 16, 32)

Step = Callable[[], object]


def main() -> None:
    options = parse()
    warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
    with tempfile.TemporaryDirectory() as folder:
        if options.full:
            full_size(Path(folder))
        else:
            small(Path(folder), options.repeats, options.cpu_time)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="of every measurement (default %(default)s)")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="one thread, and processor seconds instead of the clock's: for a machine that is busy with other work",
    )
    parser.add_argument("--full", action="store_true", help="full size on a GPU instead of the comparison on the CPU")
    return parser.parse_args()


def small(folder: Path, repeats: int, cpu_time: bool) -> None:
    if cpu_time:
        torch.set_num_threads(1)
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {BATCH}, fp32; medians of {repeats}"
        f"{', processor seconds' if cpu_time else ''}"
    )
    bench = Bench(folder)
    steps: dict[str, Step] = {"ours": bench.ours, "bare": bench.bare, "plain": bench.plain, "joined": bench.joined}
    seconds = interleaved(steps, repeats, time.process_time if cpu_time else time.perf_counter)
    for name, value in seconds.items():
        print(f"  {name:<10}{value:8.3f} s   {value / seconds['ours']:5.2f} x ours")
    kept = {"ours": kept_bytes(bench.ours, bench.unet), "trainable": kept_bytes(bench.trainable, bench.unet)}
    bench.unet.requires_grad_(False)
    for name, value in kept.items():
        print(f"  {name:<10}{value / 1e6:8.0f} MB kept for backward")
    rate = samples_per_second(folder)
    verdict("plain / ours", seconds["plain"] / seconds["ours"], ">=", 1.5)
    verdict("joined / ours", seconds["joined"] / seconds["ours"], ">=", 1.25)
    verdict("ours / bare", seconds["ours"] / seconds["bare"], "<=", 1.05)
    verdict("bytes kept, ours / trainable", kept["ours"] / kept["trainable"], "<=", 0.5)
    verdict("cached samples per second on one core (64 x 64 latents)", rate, ">=", 2000)


def verdict(what: str, value: float, sign: str, goal: float) -> None:
    reached = value >= goal if sign == ">=" else value <= goal
    print(f"{'ok     ' if reached else 'MISSED '} {what}: {value:.2f} (goal {sign} {goal:g})")


class Bench:
    """One set of models, and a step of every contender on it."""

    def __init__(self, folder: Path):
        torch.manual_seed(0)
        self.unet, self.scheduler = make_unet(SMALL_UNET, SIDE, WIDTH)
        self.vae = make_vae()
        encoder = make_text_encoder(folder, WIDTH)
        self.denoiser = DiffusersDenoiser(self.unet, self.scheduler)
        cache = make_cache(folder / "cache", PHOTOS, SIDE, ID_WIDTH)
        config = TrainConfig(batch=BATCH, micro_batch=BATCH, hidden=HIDDEN)
        self.task = MappingTask(TrainingParts(encoder, self.denoiser), cache, config)
        state = TrainState(self.task.groups, self.task.optimisation)
        self.trainer = Trainer(self.task, state, BATCH, BATCH)
        self.batch = self.task.prepare(0, range(BATCH))
        self.context = self._context().detach()
        self.class_context = encoder.encode_text(config.class_prompt).expand(BATCH, -1, -1)
        self.pixels = torch.rand(BATCH, 3, 8 * SIDE, 8 * SIDE) * 2 - 1
        self.plain_mapping = MappingTask(self.task.parts, cache, config).network.train()
        self.optimiser = torch.optim.AdamW(self.plain_mapping.parameters(), lr=config.learning_rate, weight_decay=1e-2)

    def ours(self) -> None:
        self.trainer.step(lambda: False)

    def bare(self) -> None:
        context = self.context.clone().requires_grad_()
        z_t, t = self.batch.z_t, self.batch.t
        with torch.no_grad():
            eps_c = self.unet(z_t, t, self.class_context).sample
        F.mse_loss(self.unet(z_t, t, context).sample, self._target(eps_c)).backward()

    def plain(self) -> None:
        self.unet.enable_gradient_checkpointing()
        with torch.no_grad():
            z_0 = self.vae.encode(self.pixels).latent_dist.sample() * self.vae.config.scaling_factor
        noise, t = torch.randn_like(z_0), torch.randint(0, 1000, (BATCH,))
        z_t = self.scheduler.add_noise(z_0, noise, t)
        encoder = self.task.parts.encoder
        with torch.no_grad():
            class_context = encoder.encode_text("A photo of a person").expand(BATCH, -1, -1)
            eps_c = self.unet(z_t, t, class_context).sample
        words = self.plain_mapping(self.batch.v_id, self.batch.v_exp)
        eps_pred = self.unet(z_t, t, encoder.encode_words("A photo of S*", "S*", words, "token")).sample
        mask = self.batch.mask
        F.mse_loss(eps_pred, noise * mask + eps_c * (1 - mask)).backward()
        torch.nn.utils.clip_grad_norm_(self.plain_mapping.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.unet.disable_gradient_checkpointing()

    def joined(self) -> None:
        batch = self.task.prepare(0, range(BATCH))
        both = torch.cat((self.class_context, self._context()))
        z_t, t = batch.z_t.repeat(2, 1, 1, 1), batch.t.repeat(2)
        eps_c, eps_pred = self.denoiser.predict_noise(z_t, t, both).chunk(2)
        F.mse_loss(eps_pred, self._target(eps_c.detach())).backward()
        self.trainer.state.update()
        self.trainer.state.clear_gradient()

    def trainable(self) -> None:
        self.unet.requires_grad_(True)
        z_t, t = self.batch.z_t, self.batch.t
        eps_c = self.unet(z_t, t, self.class_context).sample
        eps_pred = self.unet(z_t, t, self._context()).sample
        F.mse_loss(eps_pred, self._target(eps_c)).backward()
        self.unet.zero_grad(set_to_none=True)
        self.trainer.state.clear_gradient()

    def _context(self) -> torch.Tensor:
        config = self.task.config
        words = self.task.words(self.batch)
        return self.task.parts.encoder.encode_words(config.template, config.marker, words, config.injection)

    def _target(self, eps_c: torch.Tensor) -> torch.Tensor:
        return self.batch.noise * self.batch.mask + eps_c * (1 - self.batch.mask)


def make_unet(channels: tuple[int, ...], side: int, width: int) -> tuple:
    from diffusers import DDPMScheduler, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=side, block_out_channels=channels, cross_attention_dim=width, attention_head_dim=8
    )
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    return unet.requires_grad_(False).eval(), scheduler


def make_vae() -> torch.nn.Module:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        block_out_channels=(36, 72, 144, 144),
        norm_num_groups=4,
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        scaling_factor=0.18215,
    )
    return vae.requires_grad_(False).eval()


def make_text_encoder(folder: Path, width: int, layers: int = 2) -> DiffusersTrainableText:
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = load_tokenizer(write_letter_tokenizer(folder / "tokenizer"))
    if width not in WORD_WIDTHS.values():
        WORD_WIDTHS["small"] = width  # of this process alone: no real model has such words
    config = CLIPTextConfig(
        vocab_size=514, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=width // 64, bos_token_id=512, eos_token_id=513, pad_token_id=513,
    )  # fmt: skip
    return DiffusersTrainableText(CLIPTextModel(config), tokenizer)


def make_cache(folder: Path, count: int, side: int, id_width: int) -> Cache:
    """A cache of random values, written and opened as `prepare` and training do."""
    random = np.random.RandomState(0)
    arrays = {
        "latent_mean": random.randn(count, 2, 4, side, side).astype(np.float16),
        "latent_logvar": (random.randn(count, 2, 4, side, side) - 8).astype(np.float16),
        "v_id": random.randn(count, 2, id_width).astype(np.float32),
        "v_exp": random.randn(count, 2, EXPRESSION_WIDTH).astype(np.float32),
        "mask": random.randint(0, 256, (count, side, side)).astype(np.uint8),
    }
    models = dict.fromkeys(("msid", "expression_encoder", "autoencoder", "detector", "parser"), "random")
    photos = [Photo(f"{i:06}.png", f"{i:064}", square=(1.0, 2.0, 3.0, 4.0)) for i in range(count)]
    with CacheWriter(folder, Made(PrepareSettings(size=8 * side), models)) as writer:
        writer.start({})
        writer.add(photos, arrays)
        writer.finish({photo.name: "" for photo in photos})
    return Cache.open(folder)


def interleaved(steps: dict[str, Step], repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Median seconds of each; all take turns, so that what slows the machine slows all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 1):
        for name, step in steps.items():
            start = clock()
            step()
            seconds[name].append(clock() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def kept_bytes(step: Step, unet: torch.nn.Module) -> int:
    """Bytes that autograd saves during a step: every piece of memory once, weights not counted."""
    weights = {value.untyped_storage().data_ptr() for value in unet.parameters()}
    with counted_bytes(weights) as found:
        step()
    return sum(found.values())


@contextmanager
def counted_bytes(weights: set[int]):
    """Memory address -> bytes of what is saved for backward inside."""
    found: dict[int, int] = {}
    alive = []  # so that no address is given out twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield found


def samples_per_second(folder: Path, rounds: int = 40) -> float:
    """Samples that a cache of full-size latents gives to one core, in batches of 32, in random order."""
    cache = make_cache(folder / "large", 256, 64, 1536)
    threads, random = torch.get_num_threads(), np.random.RandomState(1)
    torch.set_num_threads(1)
    seconds = []
    for _ in range(rounds):
        indices, flips = random.randint(0, len(cache), 32).tolist(), (random.rand(32) < 0.5).tolist()
        start = time.perf_counter()
        cache.batch(indices, flips)
        seconds.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    return 32 / statistics.median(seconds)


def full_size(folder: Path) -> None:
    """Images/s and peak memory of whole steps of 32 at several micro-batches."""
    if not torch.cuda.is_available():
        raise SystemExit("--full needs a GPU; there is none here.")
    torch.set_float32_matmul_precision("high")
    unet, scheduler = make_unet(FULL_UNET, 64, WORD_WIDTHS["l"])
    unet.to("cuda", torch.bfloat16, memory_format=torch.channels_last)
    encoder = make_text_encoder(folder, WORD_WIDTHS["l"], layers=12)
    encoder._model.cuda()
    cache = make_cache(folder / "cache", 256, 64, 1536)
    config = TrainConfig()
    task = MappingTask(TrainingParts(encoder, DiffusersDenoiser(unet, scheduler)), cache, config)
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, bf16, batch 32")
    for micro_batch in FULL_MICRO_BATCHES:
        trainer = Trainer(task, TrainState(task.groups, task.optimisation), 32, micro_batch, flexible=False)
        trainer.step(lambda: False)
        torch.cuda.reset_peak_memory_stats()
        seconds = [timed_on_gpu(lambda: trainer.step(lambda: False)) for _ in range(5)]  # noqa: B023
        peak = torch.cuda.max_memory_allocated() / 1e9
        per_s = 32 / statistics.median(seconds)
        print(f"  micro-batch {micro_batch:2d}: {per_s:6.1f} images/s, peak {peak:5.1f} GB")


def timed_on_gpu(step: Step) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
