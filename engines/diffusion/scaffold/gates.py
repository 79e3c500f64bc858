"""How a gate is read: the tokens by which its options differ, as a tree over positions.

Only positions where options part count, so long options are not punished for their length, and each step is
normalised over the tokens that are possible there: the result is a probability for each option.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from carrara.engines.diffusion.scaffold.forms import NOTHING, Gate
from carrara.engines.diffusion.scaffold.lexicon import Lexicon

Scores = Callable[[int, int], float]
"""The logit of a token (second) at a depth (first) of the gate."""


_Spelled = tuple[tuple[int, ...], int]
"""The tokens of a sign, and its option."""


@dataclass(slots=True)
class _Branch:
    """The options that agree so far: where they go on by token, and those that end here.

    Where one option is left, its further tokens tell nothing and are not kept: it ends there.
    """

    options: frozenset[int]
    after: dict[int, _Branch] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, signs: Sequence[_Spelled], depth: int = 0) -> _Branch:
        branch = cls(frozenset(option for _, option in signs))
        if len(branch.options) == 1:
            branch.ends.append(signs[0][1])
            return branch
        further: dict[int, list[_Spelled]] = {}
        for tokens, option in signs:
            if len(tokens) > depth:
                further.setdefault(tokens[depth], []).append((tokens, option))
            else:
                branch.ends.append(option)
        branch.after = {token: cls.of(group, depth + 1) for token, group in further.items()}
        return branch


@dataclass(frozen=True, slots=True, eq=False)
class GatePlan:
    """A gate in tokens.

    `leads` are the options' pinned tokens. An open gate shows the `common` tokens that all leads begin with,
    then masks up to `width`: as far as options differ or, for a choice of words, as long as the longest.
    `wanted` are the (depth, token) pairs whose logits decide.
    """

    gate: Gate
    leads: tuple[tuple[int, ...], ...]
    common: int
    width: int
    wanted: tuple[tuple[int, int], ...]
    nothing: tuple[int, ...]
    tree: _Branch

    @classmethod
    def of(cls, gate: Gate, lexicon: Lexicon) -> GatePlan:
        leads = tuple(lexicon.spell(option.lead) for option in gate.options)
        tree = _Branch.of(
            [
                (lexicon.spell(sign), number)
                for number, option in enumerate(gate.options)
                for sign in option.signs or (option.lead,)
            ]
        )
        plain = all(not option.signs and option.lead for option in gate.options)
        common = _common(tree) if plain else 0
        depth = max(_depth(tree), 1)
        if gate.kind == "choice":
            depth = max(len(lead) for lead in leads)
        nothing = (lexicon.pad_id, *sorted(lexicon.eos_ids))
        wanted = tuple(dict.fromkeys(_wanted(tree, 0, nothing)))
        return cls(gate, leads, min(common, depth - 1), depth, wanted, nothing, tree)

    def probabilities(self, score: Scores, allowed: Sequence[int]) -> dict[int, float]:
        """The probability of each allowed option, summing to one."""
        found = dict.fromkeys(allowed, 0.0)
        chosen = None if len(allowed) == len(self.leads) else frozenset(allowed)
        self._share(self.tree, 0, 1.0, score, chosen, found)
        return found

    @property
    def is_choice(self) -> bool:
        return self.gate.kind == "choice"

    def shown(self, option: int) -> tuple[int, ...]:
        """What is pinned behind the masks while `option` is expected: the rest of its lead."""
        return self.leads[option][self.width :]

    def taken(self, option: int, width: int, pad_id: int) -> tuple[int, ...]:
        """How a gate of `width` positions looks once an option is taken: its lead, padded to the width."""
        lead = self.leads[option]
        return (*lead, *[pad_id] * (width - len(lead)))

    def length(self, option: int) -> int:
        """Positions of the gate once an option is taken."""
        lead = len(self.leads[option])
        return lead if self.is_choice else max(lead, self.width)

    def has_body(self, option: int) -> bool:
        return self.gate.options[option].body is not NOTHING

    def _share(
        self,
        branch: _Branch,
        depth: int,
        mass: float,
        score: Scores,
        allowed: frozenset[int] | None,
        found: dict[int, float],
    ) -> None:
        """Divide the probability `mass` of a branch between the ways it goes on (`allowed` None: all of them)."""
        if allowed is None:
            ways = list(branch.after.items())
            ending = branch.ends[0] if branch.ends else None
        else:
            ways = [
                (t, way) for t, way in branch.after.items() if not way.options.isdisjoint(allowed)
            ]
            ending = next((option for option in branch.ends if option in allowed), None)
        if ending is not None and not ways:
            found[ending] += mass
            return
        if ending is None and len(ways) == 1:
            self._share(ways[0][1], depth + 1, mass, score, allowed, found)
            return
        weights = [score(depth, token) for token, _ in ways]
        if ending is not None:
            weights.append(_log_sum(score(depth, token) for token in self.nothing))
        total = _log_sum(weights)
        shares = [mass * math.exp(weight - total) for weight in weights]
        if ending is not None:
            found[ending] += shares.pop()
        for (_, way), share in zip(ways, shares, strict=True):
            self._share(way, depth + 1, share, score, allowed, found)


def _common(branch: _Branch) -> int:
    count = 0
    while len(branch.after) == 1 and not branch.ends:
        [branch] = branch.after.values()
        count += 1
    return count


def _depth(branch: _Branch) -> int:
    """How many tokens are needed to tell all options apart."""
    below = [_depth(way) for way in branch.after.values()]
    deepest = max(below, default=0)
    if deepest:
        return 1 + deepest
    return int(len(branch.after) + bool(branch.ends) > 1)


def _wanted(branch: _Branch, depth: int, nothing: Sequence[int]) -> Iterable[tuple[int, int]]:
    if len(branch.after) + bool(branch.ends) > 1:
        yield from ((depth, token) for token in branch.after)
        if branch.ends:
            yield from ((depth, token) for token in nothing)
    for way in branch.after.values():
        yield from _wanted(way, depth + 1, nothing)


def _log_sum(values: Iterable[float]) -> float:
    found = list(values)
    top = max(found)
    if top == -math.inf:
        return top
    return top + math.log(sum(math.exp(value - top) for value in found))
