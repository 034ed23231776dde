"""What the folders of pictures are called, in words, for people who bring their own."""

from __future__ import annotations

from collections.abc import Sequence

from .plan import REFERENCE, Plan
from .work import Photo


def describe_layout(plan: Plan, photos: Sequence[Photo]) -> str:
    """The folders that --images expects, with the prompts they stand for."""
    width = max(len(prompt.key) for prompt in plan.prompts)
    lines = [
        f"{plan.title}: FACE/PROMPT/N.png, {plan.pictures} of each (N = 0 … {plan.pictures - 1})",
        "",
        f"FACE ({len(photos)}):",
        *(f"  {photo.key}" for photo in photos),
        "",
        f"PROMPT ({len(plan.prompts)}, and {REFERENCE}):",
        f"  {REFERENCE.ljust(width)}  {plan.reference}   (for dCLIP)",
        *(f"  {prompt.key.ljust(width)}  {prompt.text}" for prompt in plan.prompts),
        "",
        "Methods: " + ", ".join(method.name for method in plan.methods),
    ]
    return "\n".join(lines)
