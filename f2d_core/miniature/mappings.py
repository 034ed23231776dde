"""The mapping networks of the miniature world: what each is trained on, by the ordinary preparation and trainer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..augment.names import parse_names
from ..augment.plan import Shard
from ..augment.run import Models as AugmentModels
from ..augment.run import augment
from ..augment.settings import AugmentSettings
from ..backends.diffusers import load_pipeline
from ..backends.diffusers_training import DiffusersLatentCodec, load_training_parts
from ..backends.pictures import DiffusersPictures
from ..constants import CGDR, FEATURES_DREAMIDENTITY, FEATURES_MSID, MASKED, OF_VELOCITY, RECONSTRUCTION
from ..data.cache import Cache, Triplets
from ..data.prepare import Models, prepare
from ..data.settings import PrepareSettings, TripletSettings
from ..data.triplets import TripletModels, prepare_triplets
from ..evaluate.judges import EncoderJudge
from ..networks import load_network
from ..train.config import TrainConfig
from ..train.mapping_run import train
from ..weights import file_sha256
from .captions import CHOICE_PROMPTS, NAMES
from .encoders import GENERAL, MSID, PLAIN
from .job import precision
from .judging import Helpers
from .photos import MASKS, PHOTOS, KnownFaces, PhotoSet, write_photos
from .render import SIZE
from .watching import Tell, watching

TRAINING_PHOTOS = PhotoSet(seed=4500, count=6000)
STEPS, SHIPPED_STEPS = 300, 5000  # of a mapping for a table, and of the one in the repository
_AVERAGED = 1 / 4  # of the steps: over how many the averaged weights look back
LICENCE = "free: made of invented people"
PHOTO_FOLDER = "photos"
_DONE = "done"  # a file beside a mapping whose training has ended
BOTH, ONLY = "both", "only"  # beside the photos, or instead of them
SETTINGS = {
    "hidden": 384,
    "template": "a photo of S*",
    "class_word": "a person",
    "learning_rate": 1e-3,
    "error": OF_VELOCITY,
    "batch": 16,
    "micro_batch": 16,
    "checkpoint_every": 100,
    "keep_last": 1,
    "keep_every": 0,
    "validate_every": 0,
    "preview_every": 0,
    "licence": LICENCE,
}
# Twelve prompts that no table uses; the base model knows the sixty names.
EDITING_PROMPTS = CHOICE_PROMPTS
_AUGMENT = AugmentSettings(
    faces_per_name=1, edits_per_prompt=1, steps=20, cfg=5.0, size=SIZE, seed=4600, min_face_px=14
)


@dataclass(frozen=True)
class Recipe:
    """What a mapping is trained with. encoder: MSID, PLAIN or GENERAL. features: of it, one of constants.FEATURES.
    triplets: "", BOTH or ONLY."""

    encoder: str = MSID
    features: str = FEATURES_MSID
    variant: str = CGDR
    expression: bool = True
    words: int = 2
    triplets: str = ""

    def config(self, seed: int, steps: int = STEPS) -> TrainConfig:
        dreamidentity = self.features == FEATURES_DREAMIDENTITY
        return TrainConfig(
            variant=self.variant,
            expression=self.expression,
            words=self.words,
            aug_ratio={"": 0.0, BOTH: 0.5, ONLY: 1.0}[self.triplets],
            l2=1e-4 if dreamidentity else 0.0,
            seed=seed,
            steps=steps,
            ema=1 - 1 / (_AVERAGED * steps),
            precision=precision(),
            **SETTINGS,
        )

    @property
    def name(self) -> str:
        parts = [self.encoder, self.features, self.variant, f"{self.words}words"]
        return "-".join(
            [*parts, *(["expression"] if self.expression else []), *([self.triplets] if self.triplets else [])]
        )


_DREAM = {"encoder": PLAIN, "features": FEATURES_DREAMIDENTITY, "variant": RECONSTRUCTION, "expression": False}
FACE2DIFFUSION = Recipe()
DREAMIDENTITY = Recipe(**_DREAM, triplets=BOTH)
RECIPES = {
    # Face2Diffusion, Table 3
    "arcface": Recipe(encoder=PLAIN, features=FEATURES_MSID),
    "arcface_levels": Recipe(encoder=PLAIN, features=FEATURES_DREAMIDENTITY),
    "face2diffusion": FACE2DIFFUSION,
    # Table 4
    "no_expression": Recipe(expression=False),
    # Table 5
    "reconstruction": Recipe(variant=RECONSTRUCTION),
    "masked": Recipe(variant=MASKED),
    # DreamIdentity
    "dreamidentity": DREAMIDENTITY,
    "one_word": Recipe(**_DREAM, triplets=BOTH, words=1),
    "three_words": Recipe(**_DREAM, triplets=BOTH, words=3),
    "photos_only": Recipe(**_DREAM),
    "triplets_only": Recipe(**_DREAM, triplets=ONLY),
    "general_encoder": Recipe(**{**_DREAM, "encoder": GENERAL}, triplets=BOTH),
}


@dataclass(frozen=True)
class Place:
    """Where things are. work: what may be made again. model, recon: the base model and f_exp."""

    work: Path
    model: Path
    recon: Path

    def mapping(self, recipe: Recipe, seed: int, steps: int = STEPS) -> Path:
        return self.work / "mappings" / f"{recipe.name}-{seed}-{steps}" / "mapping_ema.safetensors"


def make_mapping(
    recipe: Recipe,
    seed: int,
    encoder: Path,
    place: Place,
    helpers: Helpers | None,
    tell: Tell,
    steps: int = STEPS,
) -> Path:
    """Train that mapping as far as it is not done. The file; of the averaged weights. helpers: for recipes with
    triplets. Raises F2DError."""
    file = place.mapping(recipe, seed, steps)
    if (file.parent / _DONE).is_file():
        return file
    photos = photo_cache(recipe, encoder, place, tell)
    triplets = triplet_cache(recipe, encoder, place, helpers, tell) if recipe.triplets else None
    parts = load_training_parts(place.model, precision=precision())
    told = watching(tell(f"mapping {recipe.name}, seed {seed}")).progress
    result = train(parts, photos, recipe.config(seed, steps), file.parent, progress=told, triplets=triplets)
    if result.finished:
        (file.parent / _DONE).touch()
    return file


def photo_cache(recipe: Recipe, encoder: Path, place: Place, tell: Tell) -> Cache:
    """The photos, prepared with the recipe's encoder. Raises F2DError."""
    folder = write_photos(TRAINING_PHOTOS, place.work / PHOTO_FOLDER)
    models = Models(
        msid=load_network(encoder, "msid"),
        recon=load_network(place.recon, "recon"),  # also where the recipe takes no expression: one cache for both
        codec=_codec(place.model),
        codec_sha256=_vae_sha256(place.model),
        detector=_known_faces(),
        masks=folder / MASKS,
    )
    settings = PrepareSettings(size=SIZE, already_cropped=True, features=recipe.features)
    out = place.work / "caches" / f"{encoder.stem}-{recipe.features}"
    return prepare(folder / PHOTOS, out, models, settings, workers=1, progress=tell(f"photos, {out.name}"))


def triplet_cache(recipe: Recipe, encoder: Path, place: Place, helpers: Helpers, tell: Tell) -> Triplets:
    """The editing triplets, prepared with the recipe's encoder. Raises F2DError."""
    folder = make_triplets(place, helpers, tell)
    models = TripletModels(
        load_network(encoder, "msid"), _codec(place.model), _vae_sha256(place.model), lambda: helpers.finder
    )
    settings = TripletSettings(size=SIZE, features=recipe.features, max_enlargement=4)
    out = place.work / "caches" / f"triplets-{encoder.stem}-{recipe.features}"
    return prepare_triplets(folder, out, models, settings, workers=1, progress=tell(f"triplets, {out.name}"))


def make_triplets(place: Place, helpers: Helpers, tell: Tell, shard: Shard | None = None) -> Path:
    """DreamIdentity's editing data (3.3), of the names that the base model knows. The folder. Raises F2DError."""
    folder = place.work / "triplets"
    if (folder / "kept.jsonl").is_file():
        return folder
    models = AugmentModels(
        DiffusersPictures(load_pipeline(place.model), "miniature"),
        helpers.finder,
        EncoderJudge(load_network(place.work / "weights" / f"{PLAIN}-0.safetensors", "msid")),
        helpers.reader,
    )
    names = parse_names("\n".join(NAMES))
    making, scoring = tell("editing data"), tell("scores of editing data")
    augment(names, EDITING_PROMPTS, folder, models, _AUGMENT, shard=shard, making=making, scoring=scoring)
    return folder


@cache
def _known_faces() -> KnownFaces:
    return KnownFaces(TRAINING_PHOTOS)


@cache
def _codec(model: Path) -> DiffusersLatentCodec:
    return DiffusersLatentCodec(load_pipeline(model).vae)


def _vae_sha256(model: Path) -> str:
    return file_sha256(next((model / "vae").glob("*.safetensors")))
