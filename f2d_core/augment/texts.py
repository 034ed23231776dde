"""The texts that the data set is made from; the editing prompts of the paper are in evaluate/prompts.py."""

from __future__ import annotations

NAME = "{name}"
FACE_PROMPT = "{name} face, looking at the camera"  # DreamIdentity 3.3, step 2

# Long dead, and portrayed so often that a base model knows them. Only to see how a list looks: far too few to train on.
EXAMPLE_NAMES = (
    "Abraham Lincoln",
    "Ada Lovelace",
    "Albert Einstein",
    "Alexander von Humboldt",
    "Charles Darwin",
    "Frederick Douglass",
    "Harriet Tubman",
    "Johann Wolfgang von Goethe",
    "Leo Tolstoy",
    "Ludwig van Beethoven",
    "Marie Curie",
    "Mark Twain",
    "Napoleon Bonaparte",
    "Queen Victoria",
    "Rabindranath Tagore",
    "Vincent van Gogh",
)
