"""What is hidden of a canvas, and what of the visible is made wrong."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass

from carrara.engines.adapt.recipe import Recipe
from carrara.engines.diffusion.scaffold.lay_out import PINNED


@dataclass(frozen=True, slots=True)
class Noise:
    """`edits`: the share of visible answer tokens that are replaced by others of the same answer."""

    recipe: Recipe
    edits: float
    mask_id: int
    chance: random.Random


Noised = tuple[list[int], list[bool]]
"""Tokens with masks, and at which positions the right token is asked for."""


@dataclass(frozen=True, slots=True)
class Sketch:
    """A canvas before noise. `ids` and `units` have one entry a position, as `lay_out.LaidOut` has them."""

    ids: Sequence[int]
    units: Sequence[int]
    gates: Set[int] = frozenset()
    open: Set[int] = frozenset()


def noised(sketch: Sketch, noise: Noise, pair: bool) -> list[Noised]:
    """One masking of a canvas, or with `pair` two that complement each other, unless all is masked.

    A gate is one decision and is masked as a whole; so are about half of the slots, of the others each position
    by itself. Units in `open` are masked always, `PINNED` positions never. As often as the recipe's `in_order` says,
    what is masked of a slot is its end: what is seen then is what slots in order have at some pass of decoding.
    """
    recipe, chance = noise.recipe, noise.chance
    ids, units = sketch.ids, sketch.units
    places = [at for at, unit in enumerate(units) if unit != PINNED]
    if chance.random() < recipe.all_noise:
        return [_hidden(ids, units, set(places), noise)]
    share = chance.uniform(recipe.least_noise, 1.0)
    whole: dict[int, bool | None] = {}
    masked: set[int] = set()
    always = {at for at in places if units[at] in sketch.open}
    for number, at in enumerate(places):
        rate = _rate(share, recipe.later, number, len(places))
        if units[at] not in whole:
            as_one = units[at] in sketch.gates or chance.random() < 0.5
            whole[units[at]] = chance.random() < rate if as_one else None
        hidden = whole[units[at]]
        if at in always or (chance.random() < rate if hidden is None else hidden):
            masked.add(at)
    rest = (set(places) - masked) | always
    if chance.random() < recipe.in_order:
        masked, rest = _ends(masked, units), _ends(rest, units)
    found = [_hidden(ids, units, masked, noise)] if masked else []
    if pair and rest - always:
        found.append(_hidden(ids, units, rest, noise))
    return found or [_hidden(ids, units, set(places), noise)]


def _rate(share: float, later: float, number: int, count: int) -> float:
    """The chance of a position to be masked: `share` on average, rising from first to last by `later`."""
    tilt = 1 + later * (number / max(1, count - 1) - 0.5)
    return min(1.0, share * tilt)


def _ends(masked: Set[int], units: Sequence[int]) -> set[int]:
    """As many positions of each unit as are masked of it, its last ones."""
    places: dict[int, list[int]] = defaultdict(list)
    for at, unit in enumerate(units):
        places[unit].append(at)
    counts = Counter(units[at] for at in masked)
    return {at for unit, count in counts.items() for at in places[unit][-count:]}


def _hidden(ids: Sequence[int], units: Sequence[int], masked: Set[int], noise: Noise) -> Noised:
    tokens = [noise.mask_id if at in masked else token for at, token in enumerate(ids)]
    asked = [at in masked for at in range(len(ids))]
    visible = [at for at, unit in enumerate(units) if unit != PINNED and at not in masked]
    if noise.edits and visible:
        for at in visible:
            if noise.chance.random() < noise.edits:
                tokens[at] = noise.chance.choice(ids)
                asked[at] = True
    return tokens, asked
