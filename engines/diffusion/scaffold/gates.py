"""How a gate is read: the tokens by which its options differ, as a tree over positions.

Only positions where options part count, so long options are not punished for their length, and each step is
normalised over the tokens that are possible there: the result is a probability for each option.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from carrara.engines.diffusion.scaffold.forms import NOTHING, Gate
from carrara.engines.diffusion.scaffold.lexicon import Lexicon

Scores = Callable[[int, int], float]
"""The logit of a token (second) at a depth (first) of the gate."""


_Spelled = tuple[tuple[int, ...], int]
"""The tokens of a sign, and its option."""


@dataclass(slots=True)
class _Branch:
    """Options that agree up to `depth`: where they go on there by token, and those that end there.

    Where one option is left, its further tokens tell nothing and are not kept: it ends there.
    """

    options: frozenset[int]
    depth: int = 0
    after: dict[int, _Branch] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, signs: Sequence[_Spelled]) -> _Branch:
        root = cls(frozenset(option for _, option in signs))
        waiting = [(root, signs)]
        while waiting:
            branch, group = waiting.pop()
            if len(branch.options) == 1:
                branch.ends.append(group[0][1])
                continue
            branch.depth = _agreed([tokens for tokens, _ in group], branch.depth)
            further: dict[int, list[_Spelled]] = {}
            for tokens, option in group:
                if len(tokens) > branch.depth:
                    further.setdefault(tokens[branch.depth], []).append((tokens, option))
                else:
                    branch.ends.append(option)
            for token, those in further.items():
                way = cls(frozenset(option for _, option in those), branch.depth + 1)
                branch.after[token] = way
                waiting.append((way, those))
        return root

    @property
    def parts_ways(self) -> bool:
        return len(self.after) + bool(self.ends) > 1

    def below(self) -> Iterator[_Branch]:
        """This branch and all that it leads to, in order."""
        waiting = [self]
        while waiting:
            branch = waiting.pop()
            yield branch
            waiting += reversed(branch.after.values())


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
        common = tree.depth if plain else 0
        depth = max((branch.depth + 1 for branch in tree.below() if branch.parts_ways), default=1)
        if gate.kind == "choice":
            depth = max(len(lead) for lead in leads)
        nothing = (lexicon.pad_id, *sorted(lexicon.eos_ids))
        wanted = tuple(dict.fromkeys(_wanted(tree, nothing)))
        return cls(gate, leads, min(common, depth - 1), depth, wanted, nothing, tree)

    def probabilities(self, score: Scores, allowed: Sequence[int]) -> dict[int, float]:
        """The probability of each allowed option, summing to one."""
        found = dict.fromkeys(allowed, 0.0)
        chosen = None if len(allowed) == len(self.leads) else frozenset(allowed)
        self._share(score, chosen, found)
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
        self, score: Scores, allowed: frozenset[int] | None, found: dict[int, float]
    ) -> None:
        """Divide the probability of the tree between the ways it goes on (`allowed` None: all of them)."""
        waiting = [(self.tree, 1.0)]
        while waiting:
            branch, mass = waiting.pop()
            ways = [
                (token, way)
                for token, way in branch.after.items()
                if allowed is None or not way.options.isdisjoint(allowed)
            ]
            ends = (option for option in branch.ends if allowed is None or option in allowed)
            ending = next(ends, None)
            if ending is not None and not ways:
                found[ending] += mass
                continue
            if ending is None and len(ways) == 1:
                waiting.append((ways[0][1], mass))
                continue
            weights = [score(branch.depth, token) for token, _ in ways]
            if ending is not None:
                weights.append(_log_sum(score(branch.depth, token) for token in self.nothing))
            total = _log_sum(weights)
            shares = [mass * math.exp(weight - total) for weight in weights]
            if ending is not None:
                found[ending] += shares.pop()
            waiting += [(way, share) for (_, way), share in zip(ways, shares, strict=True)][::-1]


def _agreed(spelled: Sequence[Sequence[int]], depth: int) -> int:
    """How far texts that agree up to `depth` agree."""
    first, shortest = spelled[0], min(map(len, spelled))
    while depth < shortest and all(tokens[depth] == first[depth] for tokens in spelled):
        depth += 1
    return depth


def _wanted(tree: _Branch, nothing: Sequence[int]) -> Iterator[tuple[int, int]]:
    for branch in tree.below():
        if branch.parts_ways:
            yield from ((branch.depth, token) for token in branch.after)
            if branch.ends:
                yield from ((branch.depth, token) for token in nothing)


def _log_sum(values: Iterable[float]) -> float:
    found = list(values)
    top = max(found)
    if top == -math.inf:
        return top
    return top + math.log(sum(math.exp(value - top) for value in found))
