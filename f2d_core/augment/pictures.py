"""Making the pictures: people looking at the camera, their faces cut out, and each face's edits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..align import similarity_transform
from ..data.crop import crop_face, ffhq_square
from ..detect import Face, choose_face, find_faces
from ..errors import ImageError, OutputError
from ..files import write_atomically
from ..image import check_size, rgb_sha256
from ..ports import Detector, PictureMaker, PictureRequest
from .plan import EditJob, FaceJob
from .settings import BOX, AugmentSettings
from .store import PATH, Record

_DECIMALS = 3  # of a px


class Pictures:
    """Makes one picture at a time into a folder, and says what is to be written down of it."""

    def __init__(self, folder: Path, maker: PictureMaker, detector: Detector, settings: AugmentSettings):
        self._folder, self._maker, self._detector, self._settings = folder, maker, detector, settings

    def face(self, job: FaceJob) -> Record:
        """The face crop of a source picture, written; or why there is none, as "rejected". Raises OutputError."""
        rgb = self._made(job.prompt, job.seed)
        record = {PATH: job.path, "kind": "face", "name": job.name, "number": job.number, "prompt": job.prompt}
        record |= {"seed": job.seed}
        try:
            face, how = main_face(self._detector, rgb, self._settings.threshold)
            short_side = _short_side(face, rgb)
            if short_side <= self._settings.min_face_px:
                raise ImageError(
                    f"The face is too small: its short side is {short_side:.0f} px, expected more than "
                    f"{self._settings.min_face_px}."
                )
            crop, points = _cropped(rgb, face, self._settings.crop)
            check_size(crop.shape[1], crop.shape[0], "The face crop")
        except ImageError as error:
            return {**record, "rejected": str(error)}
        self._write(job.path, crop, job.prompt, job.seed)
        facts = {"short_side_px": round(short_side, 1), "how": how, "points": rounded(points)}
        return {**record, **facts, "rgb_sha256": rgb_sha256(crop)}

    def edit(self, job: EditJob) -> Record:
        """An edited picture, written. Raises OutputError."""
        rgb = self._made(job.request, job.seed)
        self._write(job.path, rgb, job.request, job.seed)
        record = {PATH: job.path, "kind": "edit", "face": job.face.path, "name": job.face.name, "prompt": job.prompt}
        return {**record, "request": job.request, "seed": job.seed, "rgb_sha256": rgb_sha256(rgb)}

    def _made(self, prompt: str, seed: int) -> np.ndarray:
        request = PictureRequest(prompt, seed, negative=self._settings.negative)
        return self._maker.make(request, self._settings.sampling)

    def _write(self, path: str, rgb: np.ndarray, prompt: str, seed: int) -> None:
        """A PNG that says of itself that it is generated, and how."""
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        info, sampling = PngInfo(), self._settings.sampling
        facts = {"prompt": prompt, "seed": str(seed), "steps": f"{sampling.steps}, {sampling.sampler}"}
        for key, value in {"Software": "Face2Diffusion (generated picture)", **facts}.items():
            info.add_itxt(key, value)
        picture = Image.fromarray(rgb)
        try:
            write_atomically(self._folder / path, lambda part: picture.save(part, format="PNG", pnginfo=info))
        except OutputError as error:
            raise OutputError(f"{error} What is done so far is kept; run it again then.") from error


def main_face(detector: Detector, rgb: np.ndarray, threshold: float) -> tuple[Face, str]:
    """The largest face of a picture, and how it was found. Raises NoFaceError."""
    found = find_faces(detector, rgb, threshold)
    return choose_face(found.faces), f"{found.detector}, {found.rung}"


def rounded(points: np.ndarray) -> list[list[float]]:
    """Points as they are written down; whatever is computed from them takes these."""
    return np.round(points, _DECIMALS).tolist()


def _short_side(face: Face, rgb: np.ndarray) -> float:
    """Of the face's box, as far as it lies in the picture, px."""
    x0, y0, x1, y1 = _inside(face, rgb)
    return min(x1 - x0, y1 - y0)


def _inside(face: Face, rgb: np.ndarray) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = face.box
    return max(x0, 0.0), max(y0, 0.0), min(x1, float(rgb.shape[1])), min(y1, float(rgb.shape[0]))


def _cropped(rgb: np.ndarray, face: Face, how: str) -> tuple[np.ndarray, np.ndarray]:
    """(crop (h, w, 3) uint8 with as many px as the picture has there, points (5, 2) px of it). Raises ImageError."""
    similarity_transform(face.points)  # which every network that sees the crop will need
    if how == BOX:
        x0, y0, x1, y1 = (round(value) for value in _inside(face, rgb))
        return np.ascontiguousarray(rgb[y0:y1, x0:x1]), np.asarray(face.points) - (x0, y0)
    square = ffhq_square(face.points)
    crop = crop_face(rgb, face, square, min(round(square.side_px), max(rgb.shape[:2])))
    return crop.pixels, crop.points
