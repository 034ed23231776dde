"""Stand-ins for what editing data are made with: small, quick and predictable, without any optional package."""

import hashlib

import numpy as np

from f2d_core.augment.names import NameList
from f2d_core.detect import Face

SIZE = 64
POINTS = np.array([(0.42, 0.40), (0.58, 0.40), (0.50, 0.50), (0.44, 0.60), (0.56, 0.60)])
NAMES = NameList(("Ada Lovelace", "Mark Twain", "Marie Curie", "Léon Foucault"))
PROMPTS = ("S* as a chef", "Oil painting style, S* face")
# Prompts that contain these show no face, or a small one.
NOBODY, SMALL = "Mark Twain", "Marie Curie"


def seeded(*parts) -> np.random.RandomState:
    digest = hashlib.sha256("\n".join(map(str, parts)).encode()).digest()
    return np.random.RandomState(int.from_bytes(digest[:4], "big"))


class FakePictures:
    """Noise from prompt and seed. The top left pixel says whether there is a face: 0 none, 1 small, 2 large."""

    key = "fake pictures"

    def __init__(self):
        self.requests = []

    def make(self, request, sampling, progress=None):
        self.requests.append(request)
        noise = seeded(request.prompt, request.seed, request.negative, sampling)
        rgb = noise.randint(0, 256, (sampling.height, sampling.width, 3)).astype(np.uint8)
        rgb[:8, :8] = 2
        if "face, looking" in request.prompt:
            rgb[:8, :8] = {NOBODY: 0, SMALL: 1}.get(request.prompt.split(" face")[0], 2)
        return rgb


class FakeDetector:
    """Sees a face in the middle. In crops, which have another corner, nobody looks for one."""

    name = "fake"

    def detect(self, rgb, threshold):
        if rgb[0, 0, 0] == 0:
            return []
        height, width = rgb.shape[:2]
        part = 0.2 if rgb[0, 0, 0] == 1 else 0.6
        box = ((0.5 - part / 2) * width, (0.5 - part / 2) * height, (0.5 + part / 2) * width, (0.5 + part / 2) * height)
        return [Face(box, POINTS * (width, height), 0.9)]
