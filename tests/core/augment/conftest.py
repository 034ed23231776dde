"""Stand-ins for pictures, detector and networks, with settings that make few and small pictures."""

import pytest

from f2d_core.augment.run import Models
from f2d_core.augment.settings import AugmentSettings
from tests.support.augment import SIZE, FakeDetector, FakePictures
from tests.support.extractors import FakeIdentity, FakeImageText


@pytest.fixture
def models():
    return Models(FakePictures(), FakeDetector(), FakeIdentity(), FakeImageText())


@pytest.fixture
def settings():
    return AugmentSettings(faces_per_name=2, edits_per_prompt=3, size=SIZE, min_face_px=20, steps=2)
