"""How long something takes, in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """In the unit that people would choose, whole: 99 s, 2 min, 2 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"
