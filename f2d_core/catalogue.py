"""The published files this project can use: name, size, licence, where they are published.

One table for every "file missing" message, for `doctor` and for the README. Nothing here is ever fetched.
Sources: README and licence files of the repositories named, read in March 2024 to November 2026.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One published file. `kind` is what f2d_core.weights recognises, or a detector's name."""

    kind: str
    title: str
    file: str
    megabytes: float
    licence: str
    commercial: bool
    where: str
    sha256: str = ""  # empty: none is published

    def how_to_get(self, folder: str) -> str:
        """One sentence for error messages; `folder` is where the file belongs."""
        return (
            f"Put {self.file} ({self.megabytes:g} MB, licence: {self.licence}) into {folder}. "
            f"It is published at {self.where}."
        )


_FACE2DIFFUSION = "CC BY-NC-SA 4.0, non-commercial"

PUBLISHED = {
    entry.kind: entry
    for entry in (
        Published(
            "msid",
            "MSID encoder (Face2Diffusion)",
            "msid.pt",
            85.8,
            _FACE2DIFFUSION,
            False,
            "https://drive.google.com/file/d/1DjUf-ib612SDDt86TRlsDkHqXTeYx030 "
            "(linked from github.com/mapooon/Face2Diffusion)",
        ),
        Published(
            "mapping",
            "mapping network (Face2Diffusion)",
            "mapping.pt",
            48.0,
            _FACE2DIFFUSION,
            False,
            "https://drive.google.com/file/d/1Lf_mwMgme_HVYJCkViGr4TfGOfKw9PhE "
            "(linked from github.com/mapooon/Face2Diffusion)",
        ),
        Published(
            "recon",
            "expression encoder (Deep3DFaceRecon)",
            "epoch_20.pth",
            96.4,
            "MIT code; no separate terms for the weights, trained partly on research-only data",
            False,
            "https://drive.google.com/drive/folders/1liaIxn9smpudjjqMaWWRpP0mXRW_qRPP "
            "(linked from github.com/sicxu/Deep3DFaceRecon_pytorch)",
        ),
        Published(
            "yunet",
            "YuNet face detector",
            "yunet_n_640_640.onnx",
            0.3,
            "Apache-2.0",
            True,
            "https://github.com/ShiqiYu/libfacedetection.train (folder onnx)",
            "25a606a145a5b6d7271ae138fbd00eba91dad8b83222ae3f2c7ecd0f4a7b0e31",
        ),
        Published(
            "insightface",
            "SCRFD face detector (InsightFace)",
            "det_10g.onnx",
            16.9,
            "non-commercial research only",
            False,
            "https://github.com/deepinsight/insightface (model pack buffalo_l)",
        ),
        Published(
            "facexlib",
            "RetinaFace detector (facexlib)",
            "detection_Resnet50_Final.pth",
            109.5,
            "MIT code; see the repository for the weights",
            False,
            "https://github.com/xinntao/facexlib (release v0.1.0)",
        ),
        Published(
            "parser",
            "BiSeNet face parser (facexlib)",
            "parsing_bisenet.pth",
            53.3,
            "MIT code; weights trained on CelebAMask-HQ, non-commercial research only",
            False,
            "https://github.com/xinntao/facexlib (release v0.2.0)",
        ),
    )
}
