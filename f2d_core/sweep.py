"""From one person to another, and from one expression to another, in even steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from .blend import MADE_OF, blend, check_features, licence_of, words_of
from .encode import Expression, effective_expression
from .errors import MismatchError, SettingsError
from .ports import Progress, every
from .s_star import SStar

if TYPE_CHECKING:
    from .networks import Network


def even_values(start: float, end: float, count: int) -> list[float]:
    """`count` values from start to end, both exactly; the start alone for a count of 1."""
    if count < 1:
        raise SettingsError(f"{count} steps were asked for, expected at least 1.")
    parts = [i / max(count - 1, 1) for i in range(count)]
    return [start * (1 - part) + end * part for part in parts]


def sweep_people(
    people: Sequence[SStar], count: int, mapping: Network | None = None, progress: Progress | None = None
) -> list[SStar]:
    """`count` S* on the way from the first person through all others to the last; see `blend`.

    Each is what `blend` gives for its weights, so the ends are the first and the last person bit for bit; all bear the
    first one's marker. Raises SettingsError for fewer than two people or steps, and what `blend` raises.
    """
    if len(people) < 2 or count < 2:
        raise SettingsError(
            f"A sweep of {count} steps through {len(people)} people: expected at least two of both. Connect another "
            "S*, or set the steps to 2 or more."
        )
    last = len(people) - 1
    places = [i * last / (count - 1) for i in range(count)]
    return [
        blend(people, [max(0.0, 1 - abs(place - i)) for i in range(len(people))], mapping)
        for place in every(places, progress)
    ]


def sweep_expression(
    person: SStar,
    mapping: Network,
    expression: Expression,
    to: Expression | None,
    places: Sequence[float],
    progress: Progress | None = None,
) -> list[SStar]:
    """The person with one expression after the other: an S* for each of `places`.

    Without `to` a place is the strength: 0 no expression, 1 the reference. With it, it is the way from one reference
    (0) to the other (1). Each expression's own strength counts as well. Raises MismatchError.
    """
    check_features([person], mapping)
    for reference in (expression, to):
        _check_reference(reference, mapping)
    if to is not None and to.encoder_sha256 != expression.encoder_sha256:
        raise MismatchError(
            "The two expressions come from different expression encoders, so there is no way between them. Read both "
            "with the same one."
        )
    return [_expressed(person, mapping, expression, to, place) for place in every(places, progress)]


def _check_reference(reference: Expression | None, mapping: Network) -> None:
    width = mapping.module.config.expression_width
    if reference is not None and tuple(reference.v_exp.shape) != (1, width):
        count, found = reference.v_exp.shape
        raise MismatchError(
            f"An expression of {count} faces with {found} coefficients is connected, expected one face with {width}, "
            f"as {mapping.title} takes them. Give Expression Reference a single picture, and the matching encoder."
        )


def _expressed(person: SStar, mapping: Network, expression: Expression, to: Expression | None, place: float) -> SStar:
    if to is None:
        scaled = replace(expression, strength=expression.strength * place)
        v_exp = effective_expression(scaled, mapping)[0]
    else:
        v_exp = torch.lerp(effective_expression(expression, mapping), effective_expression(to, mapping), place)[0]
    return replace(
        person,
        vectors=words_of(person.v_id, v_exp, mapping),
        v_exp=v_exp.clone(),
        injection=mapping.facts["injection"],
        encoder_key=mapping.facts["encoder_key"],
        class_word=mapping.facts["class_word"],
        mapping_sha256=mapping.sha256,
        expression_encoder_sha256=expression.encoder_sha256,
        licence=licence_of([mapping.licence, person.licence]),
        name=f"{person.name} {place:+.2f}" if person.name else "",
        unknown_metadata={**person.unknown_metadata, MADE_OF: f"{person.title}, expression {place:.4g}"},
    )
