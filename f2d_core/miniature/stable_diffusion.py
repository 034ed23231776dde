"""Making the small Stable Diffusion of the miniature world from nothing: tokenizer, autoencoder, latents, denoiser.

torchrun --standalone --nproc-per-node=2 -m f2d_core.miniature.stable_diffusion --work DIR --out DIR
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..backends.diffusers import load_tokenizer
from ..ports import Progress
from ..train.run import carry_out
from .autoencoder import AutoencoderLesson, scaling_factor
from .captions import WORDS
from .denoiser import DenoiserLesson
from .job import ModuleJob, Settings, load_result
from .latents import LatentSet, latent_set
from .models import new_autoencoder, new_text_encoder, new_unet, save_model
from .pictures import PictureSet
from .tokenizer import write_word_tokenizer
from .watching import Tell, watching

PICTURES = 24_000  # that the denoiser is trained on
AUTOENCODER = Settings(steps=1000, batch=16, learning_rate=3e-3, ema=0.98, seed=11, checkpoint_every=200)
DENOISER = Settings(steps=7500, batch=32, learning_rate=8e-4, ema=0.995, seed=12, checkpoint_every=250)
_DENOISER_SET, _AUTOENCODER_SET = 1, 2


def make_stable_diffusion(work: Path, out: Path, tell: Tell) -> Path:
    """Train in `work` whatever is not done yet, then write the model to `out`. May be stopped at any moment."""
    tokenizer_folder = write_word_tokenizer(work / "tokenizer", WORDS)
    tokenizer = load_tokenizer(tokenizer_folder)
    vae = _autoencoder(work / "autoencoder", tell("autoencoder"))
    data = latent_set(work / "latents", PICTURES, PictureSet(_DENOISER_SET), vae, tokenizer, tell("latents"))
    unet, text_encoder = _denoiser(work / "denoiser", data, tokenizer, tell("denoiser"))
    return save_model(out, tokenizer_folder, vae, unet, text_encoder)


def _autoencoder(folder: Path, progress: Progress) -> Any:
    vae, shown = new_autoencoder(AUTOENCODER.seed), PictureSet(_AUTOENCODER_SET)
    lesson = AutoencoderLesson(vae, shown, AUTOENCODER.batch, AUTOENCODER.seed)
    carry_out(lambda: ModuleJob(lesson, AUTOENCODER), folder, watcher=watching(progress))
    load_result({"vae": vae}, folder)
    vae.register_to_config(scaling_factor=scaling_factor(vae, shown))
    return vae.requires_grad_(False).eval()


def _denoiser(folder: Path, data: LatentSet, tokenizer: Any, progress: Progress) -> tuple[Any, Any]:
    unet, text_encoder = new_unet(DENOISER.seed), new_text_encoder(tokenizer, DENOISER.seed)
    lesson = DenoiserLesson(unet, text_encoder, data, DENOISER.seed)
    carry_out(lambda: ModuleJob(lesson, DENOISER, {"pictures": len(data)}), folder, watcher=watching(progress))
    load_result({"unet": unet, "text": text_encoder}, folder)
    return unet.eval(), text_encoder.eval()
