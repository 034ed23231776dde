"""It learns what it should: the face from the photo, everything else from the base model.

A small denoiser is fitted to eight pictures, each with a word for its face and a word for its background, and to
others under the class words, which tell neither; then it is frozen and mappings are trained through it. Faces and
backgrounds are also shown exchanged, so that the denoiser can tell one from the other, as a real base model can.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from f2d_core.data.samples import Samples
from f2d_core.train import TrainingParts
from f2d_core.train.preview import validation_losses
from f2d_core.train.state import TrainState
from f2d_core.train.task import MappingTask
from f2d_core.train.trainer import Trainer
from tests.support import training

PICTURES, SIDE, WIDTH, CHANNELS = 8, 8, 16, 32
FIT_STEPS, FIT_BATCH = 800, 64
TRAIN_STEPS = 300
TEMPLATE, CLASS_PROMPT = "a photo of S*", "a photo of a person"


def coarse(colours):
    """(n, 4, 2, 2) -> (n, 4, SIDE, SIDE): four patches of one colour each."""
    return F.interpolate(colours, size=(SIDE, SIDE))


class Pictures:
    """Eight faces in the middle of eight backgrounds; photo i shows face i on background i."""

    fingerprint, facts = "eight", {}

    def __init__(self):
        self.faces, self.backgrounds = (coarse(training.seeded(PICTURES, 4, 2, 2, seed=seed)) for seed in (1, 2))
        self.v_id = training.seeded(PICTURES, 12, seed=3)
        self.mask = torch.zeros(1, 1, SIDE, SIDE)
        self.mask[..., 2:6, 2:6] = 1

    def __len__(self):
        return PICTURES

    def composed(self, faces, backgrounds):
        return faces * self.mask + backgrounds * (1 - self.mask)

    def batch(self, indices, flips):
        count = len(indices)
        mean = self.composed(self.faces[indices], self.backgrounds[indices])
        mask = self.mask.expand(count, -1, -1, -1)
        return Samples(mean, torch.full_like(mean, -20.0), self.v_id[indices], torch.empty(count, 0), mask)


class Denoiser(training.TinyDenoiser):
    """Wide enough to know eight pictures by heart."""

    def __init__(self):
        nn.Module.__init__(self)
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self._alphas = torch.linspace(0.5, 0.01, training.STEPS, dtype=torch.float64)
        self.first = nn.Conv2d(4, CHANNELS, 3, padding=1)
        self.place = nn.Parameter(torch.zeros(1, CHANNELS, SIDE, SIDE))
        self.time = nn.Linear(2, CHANNELS)
        self.words = nn.ModuleList(nn.Linear(WIDTH, CHANNELS) for _ in range(2))  # keys and values
        self.deep = nn.Sequential(nn.Conv2d(CHANNELS, 2 * CHANNELS, 1), nn.SiLU(), nn.Conv2d(2 * CHANNELS, CHANNELS, 1))
        self.last = nn.Conv2d(CHANNELS, 4, 3, padding=1)
        for i, value in enumerate(self.parameters()):
            value.data = training.seeded(*value.shape, seed=50 + i) / value[0].numel() ** 0.5

    def predict_noise(self, z_t, t, context):
        level = self._alphas[t].to(z_t)[:, None]
        hidden = self.first(z_t) + self.place + self.time(torch.cat((level, level.sqrt()), dim=1))[:, :, None, None]
        key, value = self.words
        # Every place looks at the words with a question of its own and mixes in what it sees.
        asked = self.place.flatten(2).transpose(1, 2).expand(len(z_t), -1, -1)
        seen = F.scaled_dot_product_attention(asked, key(context), value(context))
        hidden = hidden + seen.transpose(1, 2).reshape(hidden.shape)
        z_0 = self.last(F.silu(hidden + self.deep(F.silu(hidden))))
        level = level[:, :, None, None]
        return (z_t - level.sqrt() * z_0) / (1 - level).sqrt().clamp(min=0.2)


@pytest.fixture(scope="module")
def world():
    """(pictures, parts, true words (8, 2, width)): the denoiser fitted and frozen."""
    pictures, encoder, denoiser = Pictures(), training.TinyEncoder(width=WIDTH), Denoiser()
    words = training.seeded(PICTURES, 2, WIDTH, seed=4)
    class_words = encoder.word_embeddings("a person")
    random = torch.Generator().manual_seed(5)
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, FIT_STEPS)
    for _ in range(FIT_STEPS):
        face, background = torch.randint(PICTURES, (2, FIT_BATCH), generator=random)
        told = torch.rand(2, FIT_BATCH, 1, 1, 1, generator=random) < 0.7
        strangers = torch.randn(2, FIT_BATCH, 4, 2, 2, generator=random)
        faces = torch.where(told[0], pictures.faces[face], coarse(strangers[0]))
        backgrounds = torch.where(told[1], pictures.backgrounds[background], coarse(strangers[1]))
        known = torch.stack((words[face, 0], words[background, 1]), dim=1)
        shown = torch.where(told[..., 0, 0].transpose(0, 1), known, class_words)
        context = encoder.encode_words(TEMPLATE, "S*", shown, "token")
        t = torch.randint(training.STEPS, (FIT_BATCH,), generator=random)
        noise = torch.randn(FIT_BATCH, 4, SIDE, SIDE, generator=random)
        z_t = denoiser.add_noise(pictures.composed(faces, backgrounds), noise, t)
        loss = F.mse_loss(denoiser.predict_noise(z_t, t, context), noise)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    denoiser.requires_grad_(False)
    return pictures, TrainingParts(encoder, denoiser), words


def trained(world, variant):
    """The task after 300 steps."""
    pictures, parts, _ = world
    config = training.config(variant=variant, steps=TRAIN_STEPS, learning_rate=3e-3, hidden=64, flip=False,
                             expression=False, micro_batch=32, validation_images=8, validation_timesteps=6)  # fmt: skip
    task = MappingTask(parts, pictures, config)
    trainer = Trainer(task, TrainState(task.groups, task.optimisation), config.batch, config.micro_batch)
    for _ in range(TRAIN_STEPS):
        trainer.step(lambda: False)
    return task


def figures(task, words=None):
    """Foreground and background over all pictures and a grid of timesteps; `words` (8, 2, width) instead of S*."""
    if words is None:
        return validation_losses(task, 48, lambda: False)
    own = task.words
    task.words = lambda batch: words[list(batch.images)]
    try:
        return validation_losses(task, 48, lambda: False)
    finally:
        task.words = own


def test_the_face_is_learnt_and_the_background_is_left_to_the_model(world):
    _, parts, true_words = world
    cgdr, reconstruction = trained(world, "cgdr"), trained(world, "reconstruction")
    class_words = parts.encoder.word_embeddings("a person").expand(PICTURES, -1, -1)

    with_class, with_truth = figures(cgdr, class_words)["foreground"], figures(cgdr, true_words)["foreground"]
    closed = (with_class - figures(cgdr)["foreground"]) / (with_class - with_truth)
    share = figures(cgdr)["background"] / figures(reconstruction)["background"]

    print(f"class word {with_class:.4f}, true word {with_truth:.4f}, closed {closed:.3f}, background {share:.4f}")
    assert with_class > 1.5 * with_truth, "the denoiser does not listen to words: the test would show nothing"
    assert closed >= 0.8
    assert share <= 0.2
