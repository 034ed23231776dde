"""Face2Diffusion's torch core: a face photo becomes S*, a person as words for a text-to-image model.

    from f2d_core import Crop, align_face, encode_faces, load_network, read_image

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_HOMES = {
    "align": ("align_expression", "align_face", "similarity_transform"),
    "detect": ("Detection", "Face", "choose_face", "find_faces"),
    "detectors": ("auto_detector", "build_detector"),
    "encode": ("Crop", "Expression", "Labels", "encode_faces", "expression_features", "identity_features"),
    "errors": ("F2DError",),
    "image": ("read_image", "rgb_sha256", "to_rgb_u8"),
    "networks": ("Network", "load_network"),
    "prompt": ("Person", "find_markers", "slot_vectors"),
    "s_star": ("SStar", "export_embedding", "load_s_star", "save_s_star"),
    "weights": ("convert", "read_weights"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str):
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
