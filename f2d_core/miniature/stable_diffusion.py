"""Making the small Stable Diffusion of the miniature world from nothing: tokenizer, autoencoder, latents, text encoder,
denoiser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..backends.diffusers import load_tokenizer
from ..train.run import carry_out
from .autoencoder import AutoencoderLesson, DecoderLesson, scaling_factor
from .calling import CaptionEncoder, caption_encoder
from .captions import WORDS
from .denoiser import DenoiserLesson
from .job import ModuleJob, Settings, load_result
from .latents import LatentSet, latent_set
from .models import (
    AUTOENCODER_FOLDER,
    load_autoencoder,
    new_autoencoder,
    new_text_encoder,
    new_unet,
    save_autoencoder,
    save_model,
)
from .pictures import PictureSet
from .reading import ReadingLesson
from .tokenizer import write_word_tokenizer
from .watching import Tell, watching

PICTURES = 24_000  # that the denoiser is trained on
AUTOENCODER = Settings(steps=1000, batch=16, learning_rate=3e-3, ema=0.98, seed=11, checkpoint_every=200)
DECODER = Settings(steps=1200, batch=16, learning_rate=2e-3, ema=0.98, seed=13, checkpoint_every=200)
READING = Settings(steps=2000, batch=64, learning_rate=2e-3, ema=0.98, seed=14, checkpoint_every=300)
DENOISER = Settings(steps=9000, batch=32, learning_rate=1e-3, ema=0.997, seed=12, checkpoint_every=300)
_DENOISER_SET, _AUTOENCODER_SET, _DECODER_SET, _READING_SET = 1, 2, 3, 4


def make_latents(work: Path, out: Path, tell: Tell) -> LatentSet:
    """The pictures as latents of the autoencoder: what the denoiser learns from."""
    vae, tokenizer = _autoencoder(work, out, tell), load_tokenizer(_tokenizer(work))
    pictures = PictureSet(_DENOISER_SET, steady=True)
    return latent_set(work / "latents", PICTURES, pictures, vae, tokenizer, tell("latents"))


def make_caption_encoder(work: Path, tell: Tell) -> CaptionEncoder:
    """The text encoder, which has learnt to read, with the words that people are called by."""
    tokenizer, folder = load_tokenizer(_tokenizer(work)), work / "reading"
    encoder = caption_encoder(new_text_encoder(tokenizer, READING.seed), tokenizer, READING.seed)
    lesson = ReadingLesson(encoder, PictureSet(_READING_SET, steady=True), tokenizer, READING.batch, READING.seed)
    carry_out(lambda: ModuleJob(lesson, READING), folder, watcher=watching(tell("reading")))
    load_result(lesson.modules, folder)
    return encoder


def make_denoiser(work: Path, out: Path, tell: Tell) -> tuple[Any, Any]:
    """The denoiser, on the latents, and the text encoder that it listens to."""
    data, encoder, folder = make_latents(work, out, tell), make_caption_encoder(work, tell), work / "denoiser"
    lesson = DenoiserLesson(new_unet(DENOISER.seed), encoder, data, DENOISER.seed)
    carry_out(lambda: ModuleJob(lesson, DENOISER, {"pictures": len(data)}), folder, watcher=watching(tell("denoiser")))
    load_result(lesson.modules, folder)
    return lesson.modules["unet"].eval(), encoder.text_encoder.cpu()


def make_decoder(work: Path, out: Path, tell: Tell) -> None:
    """The autoencoder as it is shipped, in `out`: its decoder learns on while the denoiser is trained."""
    if not _shipped(out):
        save_autoencoder(out, _decoder(work, out, tell))


def make_stable_diffusion(work: Path, out: Path, tell: Tell) -> Path:
    """Write the model to `out`; train in `work` what is not done yet. May be stopped at any moment."""
    make_decoder(work, out, tell)
    unet, text_encoder = make_denoiser(work, out, tell)
    return save_model(out, _tokenizer(work), load_autoencoder(out), unet, text_encoder)


def _tokenizer(work: Path) -> Path:
    return write_word_tokenizer(work / "tokenizer", WORDS)


def _shipped(out: Path) -> bool:
    """Whether there is an autoencoder in `out`, which nothing trains again."""
    return (out / AUTOENCODER_FOLDER / "config.json").is_file()


def _autoencoder(work: Path, out: Path, tell: Tell) -> Any:
    if _shipped(out):
        return load_autoencoder(out)
    vae, shown, folder = new_autoencoder(AUTOENCODER.seed), PictureSet(_AUTOENCODER_SET), work / "autoencoder"
    lesson = AutoencoderLesson(vae, shown, AUTOENCODER.batch, AUTOENCODER.seed)
    carry_out(lambda: ModuleJob(lesson, AUTOENCODER), folder, watcher=watching(tell("autoencoder")))
    load_result(lesson.modules, folder)
    vae.register_to_config(scaling_factor=scaling_factor(vae, shown))
    return vae.requires_grad_(False).eval()


def _decoder(work: Path, out: Path, tell: Tell) -> Any:
    """The whole autoencoder, with a decoder that has learnt on."""
    vae, folder = _autoencoder(work, out, tell), work / "decoder"
    lesson = DecoderLesson(vae, PictureSet(_DECODER_SET, steady=True), DECODER.batch, DECODER.seed)
    carry_out(lambda: ModuleJob(lesson, DECODER), folder, watcher=watching(tell("decoder")))
    load_result(lesson.modules, folder)
    return vae.requires_grad_(False).eval()
