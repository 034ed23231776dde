"""The published files this project can use: name, size, licence, where they are published.

One table for every "file missing" message, for `doctor`, `fetch` and the README. Only f2d_core/fetch.py downloads.
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
    download: str = ""  # its address, or "drive:" and its number on Google Drive; empty: only to be had by hand
    mirrored: bool = True  # False: other files bear its name, so that a mirror's is not known to be this one

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
            download="drive:1DjUf-ib612SDDt86TRlsDkHqXTeYx030",
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
            download="drive:1Lf_mwMgme_HVYJCkViGr4TfGOfKw9PhE",
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
            "https://github.com/ShiqiYu/libfacedetection.train/raw/master/onnx/yunet_n_640_640.onnx",
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
            download="https://github.com/xinntao/facexlib/releases/download/v0.1.0/detection_Resnet50_Final.pth",
        ),
        Published(
            "parser",
            "BiSeNet face parser (facexlib)",
            "parsing_bisenet.pth",
            53.3,
            "MIT code; weights trained on CelebAMask-HQ, non-commercial research only",
            False,
            "https://github.com/xinntao/facexlib (release v0.2.0)",
            download="https://github.com/xinntao/facexlib/releases/download/v0.2.0/parsing_bisenet.pth",
        ),
        Published(
            "adaface_ir50",
            "AdaFace IR-50, MS1MV2",
            "adaface_ir50_ms1mv2.ckpt",
            174.7,
            "MIT code; weights trained on MS1M, non-commercial research only",
            False,
            "https://github.com/mk-minchul/AdaFace (table of pretrained models, R50 MS1MV2)",
        ),
        Published(
            "adaface_ir101",
            "AdaFace IR-101, WebFace12M",
            "adaface_ir101_webface12m.ckpt",
            261.2,
            "MIT code; weights trained on WebFace260M, non-commercial research only",
            False,
            "https://github.com/mk-minchul/AdaFace (R100 WebFace12M), or model.safetensors at "
            "https://huggingface.co/minchul/cvlface_adaface_ir101_webface12m",
        ),
        Published(
            "sphereface",
            "SphereFace-20a, CASIA-WebFace",
            "sphere20a_20171020.pth",
            112.0,
            "MIT code; weights trained on CASIA-WebFace, non-commercial research only",
            False,
            "https://github.com/clcarwin/sphereface_pytorch (unpack model/sphere20a_20171020.7z)",
        ),
        Published(
            "facenet",
            "FaceNet, VGGFace2",
            "20180402-114759-vggface2.pt",
            111.9,
            "MIT code; weights trained on VGGFace2, non-commercial research only",
            False,
            "https://github.com/timesler/facenet-pytorch (release v2.2.9)",
            download="https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt",
        ),
        Published(
            "arcface",
            "ArcFace R50, WebFace600K (InsightFace)",
            "w600k_r50.onnx",
            174.4,
            "non-commercial research only",
            False,
            "https://github.com/deepinsight/insightface (model pack buffalo_l)",
        ),
        Published(
            "clip_h14",
            "CLIP ViT-H/14, LAION-2B",
            "open_clip_model.safetensors",
            3944.5,
            "MIT",
            True,
            "https://huggingface.co/laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
            download="https://huggingface.co/laion/CLIP-ViT-H-14-laion2B-s32B-b79K/resolve/main/open_clip_model.safetensors",
            mirrored=False,
        ),
        Published(
            "clip_l14",
            "CLIP ViT-L/14 (OpenAI)",
            "model.safetensors",
            1710.5,
            "MIT",
            True,
            "https://huggingface.co/openai/clip-vit-large-patch14",
            download="https://huggingface.co/openai/clip-vit-large-patch14/resolve/main/model.safetensors",
        ),
        Published(
            "siglip_so400m",
            "SigLIP SO400M-14-384, WebLI",
            "open_clip_model.safetensors",
            3511.9,
            "Apache-2.0",
            True,
            "https://huggingface.co/timm/ViT-SO400M-14-SigLIP-384 (in a folder of its own, with tokenizer.json)",
            mirrored=False,
        ),
        Published(
            "siglip_b16",
            "SigLIP B-16, WebLI",
            "open_clip_model.safetensors",
            812.7,
            "Apache-2.0",
            True,
            "https://huggingface.co/timm/ViT-B-16-SigLIP (in a folder of its own, with tokenizer.json)",
            mirrored=False,
        ),
        Published(
            "inception_fid",
            "Inception of FID",
            "pt_inception-2015-12-05-6726825d.pth",
            95.6,
            "Apache-2.0",
            True,
            "https://github.com/mseitzer/pytorch-fid (release fid_weights)",
            "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        ),
    )
}
