"""Is a photo good enough to be a reference? What the five points, the pixels and optional networks say, with advice.

The identity encoder sees 112 x 112 px, in which the eyes lie 35 px apart: a face with less than that between its eyes
is enlarged. Sharpness is measured where the encoder looks: in that crop, reduced with smoothing, inside an oval that
holds skin and features but no background. It is the root of the ratio of Laplacian to gradient energy, the mean
frequency of the detail there; unlike the variance of the Laplacian it hardly depends on contrast, skin and make-up.
Measured on seven portraits, blurred by a Gaussian of s px of the crop:

    s                          0           0.5         1           1.5         2           3
    sharpness                  1.01-1.21   0.84-1.00   0.60-0.74   0.47-0.58   0.39-0.48   0.29-0.37
    variance of the Laplacian  130-772     65-369      21-106      9-37        5-16        2-4

A face reduced to 20 px between the eyes and enlarged again gives 0.72-0.86, one of 12 px 0.57-0.69.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..align import align_face, similarity_transform
from ..constants import FACE_CROP_SIZE_PX, FACE_TEMPLATE_PX
from ..data.crop import crop_face, ffhq_square
from ..data.parser import PARSER_SIZE_PX, FaceParser
from ..detect import Face
from ..image import scaled
from .drawing import FAIR, GOOD, POOR, UNKNOWN, Note
from .pose import Pose, head_pose

LEVELS = (GOOD, FAIR, POOR)  # from good to bad

_EYES_PX = float(np.hypot(*np.subtract(FACE_TEMPLATE_PX[1], FACE_TEMPLATE_PX[0])))  # in the crop: 35.2
# Below the second the encoder sees a face enlarged more than twice.
_SIZE_PX = (_EYES_PX, _EYES_PX / 2)
_SHARPNESS = (0.75, 0.55)
_TURN = (25.0, 45.0)  # yaw, degrees: beyond the second an eye begins to hide; a rule of thumb
_NOD = (30.0, 45.0)  # pitch, which is less certain
_OUTSIDE = (0.05, 0.2)  # part of the crop that lies outside the picture
_COVERED = (0.08, 0.2)  # part of the oval
_CLIPPED = (0.05, 0.2)  # part of the oval at the ends of the scale
_DARKEST, _BRIGHTEST = 8, 247  # levels that count as the ends
_HIGHLIGHT = (90, 60)  # level that the brightest 5 % reach; lower is dark whatever the skin
_RANGE = (50, 25)  # levels between the darkest and the brightest 5 %
# Root mean square of the expression coefficients, each in deviations of the face model's population: beyond 1 the face
# is further from the calm one than the population on average. Never worse than fair, since S* can do without it.
_EXPRESSION = (1.0, math.inf)

_CENTRE, _RADII = (56.0, 70.0), (34.0, 40.0)  # of the oval in the crop, px: brows to chin, without the background

# Classes of the face parser (f2d_core/data/masks.py): what belongs to a bare face, and names for what may cover it.
_BARE = frozenset({1, 2, 3, 4, 5, 10, 11, 12, 13})
_COVERS = {6: "glasses", 17: "hair", 18: "a hat", 16: "cloth"}
_SOMETHING = "something"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. level: one of LEVELS, or UNKNOWN. advice: empty where there is none to give."""

    subject: str
    value: str
    level: str
    advice: str = ""


@dataclass(frozen=True, eq=False)
class FaceReport:
    """What was found of one picture; no face: findings say so."""

    face: Face | None
    findings: tuple[Finding, ...]

    @property
    def level(self) -> str:
        """The worst of what was judged."""
        return max((f.level for f in self.findings if f.level != UNKNOWN), key=LEVELS.index, default=UNKNOWN)


def report_missing(reason: str) -> FaceReport:
    """The report of a picture without a usable face."""
    return FaceReport(None, (Finding("face", "no face found", POOR, reason),))


def report_face(
    rgb: np.ndarray, face: Face, labels: np.ndarray | None = None, v_exp: np.ndarray | None = None, others: int = 0
) -> FaceReport:
    """What (H, W, 3) uint8 shows of a face.

    labels: (112, 112) classes of the face parser in the crop of `align_face`. v_exp: (n,) expression coefficients.
    others: how many more faces are in the picture. Raises ImageError for points that do not lie like a face.
    """
    crop, inside = normalised_crop(rgb, face.points)
    grey = crop @ np.array([0.299, 0.587, 0.114])
    findings = [
        _count(others),
        _size(face),
        _sharpness(grey),
        _edge(inside),
        *_pose(head_pose(face.points)),
        _exposure(grey),
        _occlusion(labels),
        _expression(v_exp),
    ]
    return FaceReport(face, tuple(finding for finding in findings if finding is not None))


def normalised_crop(rgb: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((112, 112, 3) uint8, (112, 112) bool: inside the picture): the crop, reduced with smoothing where it is.

    Raises ImageError for points that do not lie like a face.
    """
    scale = math.sqrt(np.linalg.det(similarity_transform(points)[:2, :2]))
    if scale < 1:
        height, width = rgb.shape[:2]
        new = max(1, round(width * scale)), max(1, round(height * scale))
        points = (np.asarray(points, np.float64) + 0.5) * (new[0] / width, new[1] / height) - 0.5
        rgb = scaled(rgb, *new)
    inside = align_face(np.full_like(rgb, 255), points)[..., 0] > 127
    return align_face(rgb, points), inside


def parse_face(rgb: np.ndarray, face: Face, parser: FaceParser) -> np.ndarray:
    """(112, 112) uint8: the parser's class at every pixel of the crop of `align_face`. Raises ImageError.

    The parser sees the square around the whole head that it was trained on.
    """
    square = ffhq_square(face.points)
    labels = parser.labels(crop_face(rgb, face, square, PARSER_SIZE_PX).pixels[None])[0]
    x, y = np.meshgrid(np.arange(FACE_CROP_SIZE_PX), np.arange(FACE_CROP_SIZE_PX))
    places = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(similarity_transform(face.points)).T
    inside = np.rint(square.to_crop(places[..., :2].reshape(-1, 2), PARSER_SIZE_PX)).astype(int)
    column, row = np.clip(inside, 0, PARSER_SIZE_PX - 1).T
    return labels[row, column].reshape(FACE_CROP_SIZE_PX, FACE_CROP_SIZE_PX)


def oval() -> np.ndarray:
    """(112, 112) bool: the part of the crop that is face."""
    y, x = np.mgrid[:FACE_CROP_SIZE_PX, :FACE_CROP_SIZE_PX]
    return ((x - _CENTRE[0]) / _RADII[0]) ** 2 + ((y - _CENTRE[1]) / _RADII[1]) ** 2 <= 1


def eye_distance(points: np.ndarray) -> float:
    """Px between the eyes."""
    return float(np.hypot(*np.subtract(points[1], points[0])))


def sharpness(grey: np.ndarray) -> float:
    """Of the oval of a (112, 112) crop, see above; 0 where it is flat."""
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    across, down = grey[1:-1, 2:] - grey[1:-1, 1:-1], grey[2:, 1:-1] - grey[1:-1, 1:-1]
    where = oval()[1:-1, 1:-1]
    gradient = np.mean(across[where] ** 2 + down[where] ** 2)
    return float(np.sqrt(np.var(laplacian[where]) / gradient)) if gradient > 0 else 0.0


def _graded(value: float, limits: tuple[float, float], rising: bool) -> str:
    """rising: larger is better, good from limits[0], poor below limits[1]; else smaller is better."""
    if not rising:
        value, limits = -value, (-limits[0], -limits[1])
    return GOOD if value >= limits[0] else FAIR if value >= limits[1] else POOR


def _finding(subject: str, value: str, level: str, advice: dict[str, str]) -> Finding:
    return Finding(subject, value, level, advice.get(level, ""))


def _count(others: int) -> Finding | None:
    if others < 1:
        return None
    value = f"{others} more face{'s' if others > 1 else ''} in the picture"
    return Finding("people", value, FAIR, "check that the framed one is meant, else change order and index")


def _size(face: Face) -> Finding:
    distance, width = eye_distance(face.points), face.box[2] - face.box[0]
    value = f"{width:.0f} px wide, {distance:.0f} px between the eyes"
    small = f"the face is only {width:.0f} px wide: use a larger photo"
    return _finding(
        "size",
        value,
        _graded(distance, _SIZE_PX, rising=True),
        {FAIR: f"{small} if there is one", POOR: small},
    )


def _sharpness(grey: np.ndarray) -> Finding:
    measured = sharpness(grey)
    advice = {
        FAIR: "a little soft: a sharper photo gives a better likeness",
        POOR: "blurred: use a photo in focus, and one that was never small",
    }
    return _finding("sharpness", f"{measured:.2f}", _graded(measured, _SHARPNESS, rising=True), advice)


def _edge(inside: np.ndarray) -> Finding:
    missing = 1 - float(inside.mean())
    advice = dict.fromkeys((FAIR, POOR), "the face is cut off by the edge: use a photo with room around it")
    return _finding("edge", f"{missing:.0%} outside the picture", _graded(missing, _OUTSIDE, rising=False), advice)


def _pose(pose: Pose) -> list[Finding]:
    return [_yaw(pose.yaw), _pitch(pose.pitch), _roll(pose.roll)]


def _yaw(yaw: float) -> Finding:
    side = "image right" if yaw > 0 else "image left"
    advice = {
        FAIR: "turned to one side: a frontal photo gives a better likeness",
        POOR: "almost a profile: use a photo that looks towards the camera",
    }
    value = f"turned {abs(yaw):.0f}° to {side}" if round(yaw) else "not turned"
    return _finding("yaw", value, _graded(abs(yaw), _TURN, rising=False), advice)


def _pitch(pitch: float) -> Finding:
    way = "up" if pitch > 0 else "down"
    hint = " (a broad smile can look like this to five points)" if pitch < 0 else ""
    advice = {
        FAIR: f"looks {way}{hint}: a level photo is better",
        POOR: f"looks far {way}{hint}: use a photo taken at eye level",
    }
    value = f"looks {way} by about {abs(pitch):.0f}°" if round(pitch) else "looks level"
    return _finding("pitch", value, _graded(abs(pitch), _NOD, rising=False), advice)


def _roll(roll: float) -> Finding:
    """Never a fault: the crop is turned upright."""
    way = "clockwise" if roll > 0 else "anticlockwise"
    return Finding("roll", f"tilted {abs(roll):.0f}° {way}" if round(roll) else "upright", GOOD)


def _exposure(grey: np.ndarray) -> Finding:
    """By the ends of the scale, never by the mean: dark skin is not an underexposed photo."""
    levels = grey[oval()]
    low, high = np.percentile(levels, [5, 95])
    black, white = float((levels <= _DARKEST).mean()), float((levels >= _BRIGHTEST).mean())
    grades = {
        "too dark: use a photo with more light on the face": max(
            _graded(high, _HIGHLIGHT, rising=True), _graded(black, _CLIPPED, rising=False), key=LEVELS.index
        ),
        "parts are burnt out: use a photo with softer light": _graded(white, _CLIPPED, rising=False),
        "flat: use a photo with more contrast": _graded(high - low, _RANGE, rising=True),
    }
    advice, level = max(grades.items(), key=lambda item: LEVELS.index(item[1]))
    value = f"levels {low:.0f} to {high:.0f}"
    return Finding("exposure", value, level, "" if level == GOOD else advice)


def _occlusion(labels: np.ndarray | None) -> Finding:
    if labels is None:
        return Finding("covered", "not judged without a face parser", UNKNOWN)
    inside = labels[oval()]
    foreign = ~np.isin(inside, list(_BARE))
    share = float(foreign.mean())
    names = [_COVERS.get(int(label), _SOMETHING) for label in np.unique(inside[foreign])]
    by = " and ".join(dict.fromkeys(names))
    value = f"{share:.0%} covered" + (f" by {by}" if by and share >= 0.01 else "")
    advice = dict.fromkeys((FAIR, POOR), f"{by} in front of the face may become part of the person: use a bare face")
    return _finding("covered", value, _graded(share, _COVERED, rising=False), advice)


def _expression(v_exp: np.ndarray | None) -> Finding:
    if v_exp is None:
        return Finding("expression", "not judged without an expression encoder", UNKNOWN)
    strength = float(np.sqrt(np.mean(np.square(np.asarray(v_exp, np.float64)))))
    advice = {FAIR: "a strong expression: a calm face gives a better likeness"}
    value = f"strength {strength:.2f} (0 is a calm face)"
    return _finding("expression", value, _graded(strength, _EXPRESSION, rising=False), advice)


# --- for people ---


def describe(report: FaceReport) -> str:
    """A line for each finding, what needs attention first."""
    return "\n".join(_line(finding) for finding in _by_need(report))


def note(report: FaceReport) -> Note:
    """For `drawing.draw_notes`: the face framed in the colour of its worst finding, all findings below."""
    lines = tuple((finding.level, _line(finding)) for finding in _by_need(report))
    return Note(report.face, report.level, report.level, lines)


def _by_need(report: FaceReport) -> list[Finding]:
    order = [POOR, FAIR, GOOD, UNKNOWN]
    return sorted(report.findings, key=lambda finding: order.index(finding.level))


def _line(finding: Finding) -> str:
    level = f" ({finding.level})" if finding.level != UNKNOWN else ""
    advice = f": {finding.advice}" if finding.advice else ""
    return f"{finding.subject}: {finding.value}{level}{advice}"
