"""Networks that judge pictures: who is on them (identity), what is on them (text), how they are spread (FID).

Each owns its alignment, size, channel order and normalisation, is loaded from a local file that is recognised by its
content, and runs in fp32. The published files, with licences: f2d_core/catalogue.py. Nothing is downloaded.
"""

from .find import (
    IDENTITY_KINDS,
    IMAGE_TEXT_KINDS,
    INCEPTION_KIND,
    Extractors,
    extractor_kind,
    find_extractors,
    load_extractor,
    usable_extractors,
)
from .load import InceptionExtractor, load_identity_extractor, load_image_text_extractor, load_inception

__all__ = [
    "IDENTITY_KINDS",
    "IMAGE_TEXT_KINDS",
    "INCEPTION_KIND",
    "Extractors",
    "InceptionExtractor",
    "extractor_kind",
    "find_extractors",
    "load_extractor",
    "load_identity_extractor",
    "load_image_text_extractor",
    "load_inception",
    "usable_extractors",
]
