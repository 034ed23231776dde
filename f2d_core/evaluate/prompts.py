"""The papers' prompts as data: the 40 of Face2Diffusion with their groups, DreamIdentity's eight editing prompts.

Face2Diffusion: Table 7 gives them in one list, ten of each kind in the order job, activity, expression, location
(4.2 names the kinds). DreamIdentity: appendix A lists nine, one of them twice. In all of them the marker `S*` stands
for the person.
"""

from __future__ import annotations

from ..constants import DEFAULT_CLASS_WORD, DEFAULT_MARKER

# group -> prompts (Face2Diffusion, Table 7)
F2D_GROUPS = {
    "job": (
        "A photo of S* as a firefighter",
        "A photo of S* as a cowboy",
        "A photo of S* as a chef",
        "A photo of S* as a racer",
        "A photo of S* as a king",
        "A photo of S* as a scientist",
        "A photo of S* as a tennis player",
        "A photo of S* as a DJ",
        "A photo of S* as a knight",
        "A photo of S* as a pilot",
    ),
    "activity": (
        "A photo of S* walking in a city under an umbrella",
        "A photo of S* surrounded by tall bookshelves",
        "A photo of S* trying on hats in a vintage boutique",
        "A photo of S* sipping coffee at a café terrace",
        "A photo of S* in a busy subway station",
        "A photo of S* eating ice cream at a rooftop terrace",
        "A photo of S* playing the saxophone on a stage",
        "A photo of S* running in a meadow",
        "A photo of S* playing chess at a wooden table",
        "A photo of S* knitting in a comfortable armchair",
    ),
    "expression": (
        "A photo of S* yawning during a study session",
        "A photo of S* smiling warmly at the camera",
        "A photo of S* with a hand covering their mouth",
        "A photo of S* hugging a friend tightly",
        "A photo of S* flexing muscles in a gym",
        "A photo of S* looking shocked",
        "A photo of S* giving a thumbs-up",
        "A photo of S* looking angry",
        "A photo of S* sitting cross-legged on a rock",
        "A photo of S* wearing an oversized sweater",
    ),
    "location": (
        "A photo of S* at the Great Wall of China",
        "A photo of S* exploring Machu Picchu",
        "A photo of S* sailing near the Sydney Opera House",
        "A photo of S* walking through the streets of Rome near the Colosseum",
        "A photo of S* at the Grand Canyon in sunset",
        "A photo of S* enjoying cherry blossoms in Tokyo",
        "A photo of S* on a gondola in Venice",
        "A photo of S* at the Taj Mahal in India",
        "A photo of S* at Mount Everest Base Camp",
        "A photo of S* in front of Niagara Falls",
    ),
}
F2D_PROMPTS = tuple(prompt for prompts in F2D_GROUPS.values() for prompt in prompts)

# DreamIdentity, appendix A, without the second "as a wizard"
DREAMIDENTITY_PROMPTS = (
    "Oil painting style, S* face",
    "Watercolor style, S* face",
    "Pencil art style, S* face",
    "Fauvism painting, S* face",
    "S* as a wizard, looking at the camera",
    "S* wearing a hat, looking at the camera",
    "S* as a chef, looking at the camera",
    "S* as a nurse, looking at the camera",
)


def plain_text(prompt: str, marker: str = DEFAULT_MARKER, class_word: str = DEFAULT_CLASS_WORD) -> str:
    """The prompt as text encoders that know no S* read it: "A photo of S* as a chef" -> "A photo of a person as …"."""
    return prompt.replace(marker, class_word)
