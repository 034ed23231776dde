"""The exceptions of this project.

    F2DError                     every error a user can cause or mend; the message is for them
    ├── ImageError               a picture that cannot be read or used
    │   └── NoFaceError          no face where one is needed
    ├── WeightsError             a weight or identity file that is missing, damaged or another model
    ├── MismatchError            parts that do not belong together (S* and text encoder, encoder and mapping)
    ├── PromptError              a marker that is missing, doubled or malformed
    ├── MissingPackageError      an optional package that is not installed
    ├── SettingsError            a setting out of its range
    ├── CacheError               a cache of prepared photos that is missing, unfinished, damaged or made otherwise
    ├── DataError                a set of training or test pictures that is missing, damaged or not understood
    ├── TrainingError            a training run that cannot go on
    ├── DownloadError            a file that cannot be fetched
    └── OutputError              a place that cannot be written

A message is one line and says what was found, what was expected and what to do.
"""


class F2DError(Exception):
    """Base of all errors that are the user's to mend; its text is shown as it is."""


class ImageError(F2DError):
    """A picture that cannot be read or used."""


class NoFaceError(ImageError):
    """No face was found where one is needed."""


class WeightsError(F2DError):
    """A weight or identity file is missing, damaged, unsafe or of another kind."""


class MismatchError(F2DError):
    """Two parts do not belong together, for example an S* and a text encoder."""


class PromptError(F2DError):
    """A marker is missing from the prompt, doubled or malformed."""


class MissingPackageError(F2DError):
    """An optional package is needed and not installed."""


class SettingsError(F2DError):
    """A setting is out of its range."""


class CacheError(F2DError):
    """A cache of prepared photos is missing, unfinished, damaged or made with other settings."""


class DataError(F2DError):
    """A set of training or test pictures is missing, damaged or not understood."""


class TrainingError(F2DError):
    """A training run cannot go on, for example because its loss is not a number."""


class OutputError(F2DError):
    """A file or folder cannot be written."""


class DownloadError(F2DError):
    """A published file cannot be fetched."""
