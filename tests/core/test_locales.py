"""locales/: every text of the pack in every language, with what must not be translated intact. English follows the
schemas, which the host ring checks."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[2]
FOLDER = REPO / "locales"
FILES = ("nodeDefs.json", "commands.json", "settings.json", "main.json")
TRANSLATIONS = ("zh", "ja")
# Names of things that are the same in every language.
UNTRANSLATED = {"S*", "CLIP", "VAE", "CFG", "alpha", "Sigmas", "CLIP Vision", "Face2Diffusion"}
# What a text must keep as it is: markers, numbers, files and folders, places for names, quoted words, names of models.
INTACT = re.compile(
    r"S\*|\{\w+\}|\"[^\"]+\"|[\w/]+/[\w/]+|\w+\.(?:pth|pt|safetensors|onnx|jsonl|txt)\b|"
    r"(?<![\w-])\d+(?:[.,]\d+)*|"
    r"\b(?:CLIP|LoRA|SD [12]\.x|UNet|VAE|KSampler|DreamIdentity|FastComposer|Deep3DFaceRecon|AdamW)\b"
)
KANA, HAN = re.compile("[\u3041-\u30ff]"), re.compile("[\u4e00-\u9fff]")


def leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if not isinstance(tree, dict):
        yield path, tree
        return
    for key, value in tree.items():
        yield from leaves(value, (*path, key))


def texts(language: str) -> dict[tuple[str, ...], str]:
    """Every text of a language by its file and its place in it."""
    found = {}
    for file in FILES:
        tree = json.loads((FOLDER / language / file).read_text(encoding="utf-8"))
        found |= {(file, *path): text for path, text in leaves(tree)}
    return found


ENGLISH = texts("en")


def test_the_languages_and_their_files_are_these():
    found = {file.relative_to(FOLDER).as_posix() for file in FOLDER.rglob("*") if file.is_file()}

    assert found == {f"{language}/{file}" for language in ("en", *TRANSLATIONS) for file in FILES}


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_every_text_is_there_and_no_other(language):
    translated = texts(language)

    assert translated.keys() == ENGLISH.keys()
    assert all(isinstance(text, str) and text.strip() == text != "" for text in translated.values())


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_nothing_is_left_in_english(language):
    for path, text in texts(language).items():
        if re.sub(r" \d$", "", text) not in UNTRANSLATED:
            assert text != ENGLISH[path] and (HAN.search(text) or KANA.search(text)), (path, text)


def test_each_language_is_itself():
    """Simplified Chinese has no kana; a Japanese sentence has."""
    for path, text in texts("zh").items():
        assert not KANA.search(text), (path, text)
    for path, text in texts("ja").items():
        assert KANA.search(text) or path[-1] not in ("tooltip", "description"), (path, text)


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_what_is_not_to_be_translated_stays(language):
    for path, text in texts(language).items():
        for kept in INTACT.findall(_without_node_names(ENGLISH[path])):
            assert kept in text, (path, kept, text)


def _without_node_names(text: str) -> str:
    """Nodes are named as the language calls them."""
    for path, name in ENGLISH.items():
        if path[-1] == "display_name":
            text = text.replace(name, "")
    return text


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_nodes_are_called_by_their_names(language):
    """Where a text names another node, the translation names it as that node is titled."""
    translated = texts(language)
    titles = {text: translated[path] for path, text in ENGLISH.items() if path[-1] == "display_name" and " " in text}
    for path, text in ENGLISH.items():
        if path[-1] in ("tooltip", "description"):
            for title in [title for title in titles if title in text]:
                assert titles[title] in translated[path], (path, title, translated[path])


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_the_same_text_is_translated_alike(language):
    ways = defaultdict(set)
    for path, text in texts(language).items():
        ways[path[0], ENGLISH[path]].add(text)

    assert {text: found for text, found in ways.items() if len(found) > 1} == {}


@pytest.mark.parametrize("language", ("en", *TRANSLATIONS))
def test_nothing_means_something_else_to_the_frontend(language):
    """It reads texts as messages of vue-i18n, where these have a meaning; only tooltips of nodes as they are."""
    for path, text in texts(language).items():
        if (path[0], path[-1]) != ("nodeDefs.json", "tooltip"):
            assert not re.search(r"[{}@|]", text), (path, text)
