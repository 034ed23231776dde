"""What the methods of the tables differ in, as settings of the ordinary trainer."""

from f2d_core.constants import CGDR, FEATURES_DREAMIDENTITY, FEATURES_MSID, RECONSTRUCTION
from f2d_core.miniature.captions import PROMPTS
from f2d_core.miniature.mappings import EDITING_PROMPTS, RECIPES, TRAINING_PHOTOS
from f2d_core.miniature.trials import FACES


def test_every_method_has_a_folder_of_its_own():
    assert len({recipe.name for recipe in RECIPES.values()}) == len(RECIPES)


def test_settings_differ_in_what_is_compared_alone():
    ours = vars(RECIPES["face2diffusion"].config(0))
    for name, changed in (("no_expression", {"expression"}), ("reconstruction", {"variant"}), ("masked", {"variant"})):
        own = vars(RECIPES[name].config(0))
        assert {key for key in own if own[key] != ours[key]} == changed
    both = vars(RECIPES["dreamidentity"].config(0))
    for name, changed in (("one_word", {"words"}), ("photos_only", {"aug_ratio"}), ("triplets_only", {"aug_ratio"})):
        own = vars(RECIPES[name].config(0))
        assert {key for key in own if own[key] != both[key]} == changed


def test_the_methods_are_the_papers():
    ours, theirs = RECIPES["face2diffusion"], RECIPES["dreamidentity"]

    assert (ours.variant, ours.features, ours.expression, ours.words) == (CGDR, FEATURES_MSID, True, 2)
    assert (theirs.variant, theirs.features, theirs.expression) == (RECONSTRUCTION, FEATURES_DREAMIDENTITY, False)
    assert theirs.config(0).l2 == 1e-4 and ours.config(0).l2 == 0


def test_training_and_tables_share_neither_faces_nor_prompts():
    assert not set(EDITING_PROMPTS) & set(PROMPTS)
    assert TRAINING_PHOTOS.seed != FACES.seed
