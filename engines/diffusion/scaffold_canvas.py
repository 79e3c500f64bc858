"""The canvas of a contract: pinned literals, slots, gates, read together in each denoising step."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from carrara.engines.diffusion.canvas import Reading, Site, View
from carrara.engines.diffusion.commit import CommitRule
from carrara.engines.diffusion.drafts import Renoised
from carrara.engines.diffusion.judge import Along
from carrara.engines.diffusion.rules import Bar
from carrara.engines.diffusion.scaffold import read
from carrara.engines.diffusion.scaffold.layout import Layout, Placed, lay
from carrara.engines.diffusion.scaffold.nodes import Choice, Fork, Hole, Pinned, leaves
from carrara.engines.diffusion.scaffold.tree import Tree
from carrara.engines.pieces import Piece


@dataclass(frozen=True, slots=True)
class _Unit:
    """One decision: a token for a position of a hole (`at`), or an option for a fork. `chance` is reported as its
    confidence; `joint` ranks it and counts that it may not come to be."""

    placed: Placed
    at: int
    token: int
    chance: float
    joint: float

    @property
    def is_last(self) -> bool:
        hole = self.placed.leaf
        return isinstance(hole, Hole) and self.at == len(hole.ids) - 1


@dataclass(slots=True, eq=False)
class ScaffoldCanvas:
    """A tree on the canvas. `temperature` above 0 draws gates with `chance` (tokens are drawn by the reader).
    `grow` lets slots get longer when the model wants to write on. `spans` is what each span of a draft covers. `bar`
    ranks gates on a scale of their own. `in_order` ranks a token of a slot together with those before it (`Along`), so
    that a slot is written from its beginning."""

    tree: Tree
    grow: bool = False
    temperature: float = 0.0
    chance: random.Random = field(default_factory=random.Random)
    spans: list[list[Renoised]] = field(default_factory=list)
    bar: Bar | None = None
    in_order: bool = False
    _layout: Layout = field(init=False)
    _view: View | None = None
    _probes: dict[int, Hole] = field(default_factory=dict)
    _clean: list[int] = field(default_factory=list)
    _viewed: bool = False

    def __post_init__(self) -> None:
        self._layout = Layout(self.tree, 0)

    def view(self) -> View | None:
        if not self._viewed:
            self._view = self._next_view()
            self._viewed = True
        return self._view

    def settle(self, reading: Reading, rule: CommitRule, step: int) -> None:
        view = self._view
        if view is None:
            return
        logits = {pair: value for pair, value in zip(view.pairs, reading.logits, strict=True)}
        self._weigh_all(logits)
        self._note_growth(view, reading)
        units = self._units(view, reading)
        self._viewed = False
        if not units:
            return
        joint = torch.tensor([[unit.joint for unit in units]], dtype=torch.float64)
        picked = rule(joint, torch.ones_like(joint, dtype=torch.bool), step)[0].tolist()
        self._commit([unit for unit, commit in zip(units, picked, strict=True) if commit])

    def finish(self) -> None:
        while not self.tree.is_finished:
            for placed in lay(self.tree).placed:
                leaf = placed.leaf
                if isinstance(leaf, Hole):
                    leaf.finish()
                elif isinstance(leaf, Fork) and leaf.chosen is None and self._goes_on(placed):
                    self._finish_fork(leaf)
            self._clean += self.tree.emit()
        self._viewed = False

    def take_clean(self) -> list[int]:
        found, self._clean = self._clean, []
        return found

    @property
    def mask_id(self) -> int:
        return self.tree.scaffold.lexicon.mask_id

    @property
    def room(self) -> int:
        """The most positions that the answer may take."""
        return self.tree.budget.tokens

    @property
    def undecided(self) -> int:
        return 0 if self._view is None else len(self._view.sites) + len(self._open_forks())

    @property
    def settled_share(self) -> float:
        if not self._layout.placed:
            return 1.0 if self.tree.is_finished else 0.0
        holes = [p.leaf for p in self._layout.placed if isinstance(p.leaf, Hole)]
        open_positions = sum(map(self._unsettled, holes)) + len(self._open_forks())
        return 1.0 - open_positions / max(1, self._layout.length)

    def _unsettled(self, hole: Hole) -> int:
        """How many positions of a hole may still become something else."""
        return hole.ids.count(None)

    @property
    def is_cramped(self) -> bool:
        """Whether the room given cut the answer: choices were taken away, or a string filled its slot."""
        if self.tree.cramped:
            return True
        holes = (leaf for leaf in leaves(self.tree.root) if isinstance(leaf, Hole))
        return any(self._is_full(hole) for hole in holes)

    def _is_full(self, hole: Hole) -> bool:
        """Whether a decided string has no pad left and could not grow, though its language goes on."""
        if hole.slot.kind != "string" or hole.sure[-1:] == [None]:
            return False
        longest = self.tree.scaffold.longest(hole.slot)
        most = self.tree.scaffold.grown(hole.slot, self.tree.budget.slot_most)
        most = most if self.grow else min(most, len(hole.ids))
        full = hole.ids[-1] != self.tree.scaffold.lexicon.pad_id
        return full and most <= len(hole.ids) < longest

    def pieces(self) -> Iterator[Piece]:
        """The answer as it stands: what is behind an open fork is not shown."""
        return read.pieces(self.tree.root)

    # Looking

    def _next_view(self) -> View | None:
        while True:
            self._layout = lay(self.tree)
            settled = all(placed.leaf.is_settled for placed in self._layout.placed)
            if not settled or self._looks_again():
                return self._picture()
            self._clean += self.tree.emit()
            if self.tree.is_finished:
                return None

    def _looks_again(self) -> bool:
        """Whether the model is to see a block in which all is decided."""
        return False

    def _picture(self) -> View:
        lexicon = self.tree.scaffold.lexicon
        tokens: list[int] = []
        sites: list[Site] = []
        pairs: list[tuple[int, int]] = []
        self._probes = {}
        for placed in self._layout.placed:
            leaf = placed.leaf
            if isinstance(leaf, Pinned):
                tokens += leaf.ids
            elif isinstance(leaf, Hole):
                tokens += [lexicon.mask_id if i is None else i for i in leaf.ids]
                sites += [
                    Site(placed.start + at, leaf.row(at))
                    for at, token in enumerate(leaf.ids)
                    if token is None
                ]
                if self._may_grow(leaf):
                    self._probes[len(sites)] = leaf
                    sites.append(
                        Site(placed.start + len(leaf.ids) - 1, leaf.roomy_row(len(leaf.ids) - 1))
                    )
            elif isinstance(leaf, Fork):
                tokens += self._fork_tokens(leaf, placed)
                if leaf.chosen is None:
                    pairs += [
                        (placed.start + depth, token)
                        for depth, token in leaf.plan.wanted
                        if depth < leaf.width
                    ]
        return View(tuple(tokens), tuple(sites), tuple(pairs))

    def _fork_tokens(self, fork: Fork, placed: Placed) -> list[int]:
        lexicon, plan = self.tree.scaffold.lexicon, fork.plan
        if fork.chosen is not None:
            return list(plan.taken(fork.chosen, fork.width, lexicon.pad_id))
        masks = [lexicon.mask_id] * (fork.width - plan.common)
        return [*plan.leads[0][: plan.common], *masks, *placed.shown]

    def _may_grow(self, hole: Hole) -> bool:
        most = self.tree.scaffold.grown(hole.slot, self.tree.budget.slot_most)
        return (
            self.grow and hole.ids[-1] is None and len(hole.ids) < most and self._layout.slack > 0
        )

    # Reading

    def _weigh_all(self, logits: dict[tuple[int, int], float]) -> None:
        """Give every open fork the probabilities of its options."""
        found = self._open_forks()
        if not found:
            return
        chains, slack = self.tree.chains(), self.tree.room.slack(self.tree.root)
        for placed in found:
            fork, start = placed.leaf, placed.start
            assert isinstance(fork, Fork)
            allowed = self.tree.affordable(fork, chains.get(fork), slack)
            fork.weights = fork.plan.probabilities(
                lambda depth, token, start=start: logits[start + depth, token],  # type: ignore[misc]
                allowed,
            )

    def _best(self, fork: Fork) -> int:
        if self.temperature <= 0:
            return max(fork.weights, key=lambda option: fork.weights[option])
        options = list(fork.weights)
        heat = [fork.weights[option] ** (1 / self.temperature) for option in options]
        return self.chance.choices(options, heat)[0] if sum(heat) > 0 else options[0]

    def _note_growth(self, view: View, reading: Reading) -> None:
        for index, hole in self._probes.items():
            hole.wants_more = hole.opens(len(hole.ids) - 1, reading.tokens[index])

    def _units(self, view: View, reading: Reading) -> list[_Unit]:
        holes = {
            placed.start + at: (placed, at)
            for placed in self._layout.placed
            if isinstance(placed.leaf, Hole)
            for at in range(len(placed.leaf.ids))
        }
        found = []
        ranks: dict[Fork, float] = {}
        for placed in self._open_forks():
            fork = placed.leaf
            assert isinstance(fork, Fork)
            best = self._best(fork)
            sure = fork.weights[best]
            rank = reading.gate(list(fork.weights.values()), sure)
            ranks[fork] = self._gate_rank(rank, placed, ranks)
            found.append(_Unit(placed, 0, best, sure, ranks[fork]))
        for index, site in enumerate(view.sites):
            placed, at = holes[site.offset]
            hole = placed.leaf
            assert isinstance(hole, Hole)
            if index in self._probes or (
                hole.wants_more and at >= len(hole.ids) - max(2, len(hole.ids) // 4)
            ):
                continue
            joint = self._token_rank(reading.sure[index], placed, ranks)
            found.append(_Unit(placed, at, reading.tokens[index], reading.chance[index], joint))
        return _in_order(found, reading.along) if self.in_order else found

    def _gate_rank(self, sure: float, placed: Placed, ranks: Mapping[Fork, float]) -> float:
        """At most the rank of each open fork before it: what hangs on a gate is never picked without it."""
        joint = sure * _likely(placed)
        return min(joint if self.bar is None else self.bar.rank(joint), _least(placed, ranks))

    def _token_rank(self, sure: float, placed: Placed, ranks: Mapping[Fork, float]) -> float:
        """With a bar for gates, a token and the gates before it are each measured by their own."""
        likely, least = _likely(placed), _least(placed, ranks)
        if self.bar is None:
            return sure * min(likely, least)
        return min(sure, self.bar.rank(likely), least)

    def _open_forks(self) -> list[Placed]:
        return [
            placed
            for placed in self._layout.placed
            if isinstance(placed.leaf, Fork) and placed.leaf.chosen is None
        ]

    # Deciding

    def _commit(self, units: list[_Unit]) -> None:
        """Gates first, from left to right; then tokens, the surest first: each one fits those before it. The last place
        of a slot comes behind the others: few tokens may end a text, so it is surer than it would be elsewhere. In
        order, what does not fit holds back what stands behind it."""
        for unit in units:
            fork = unit.placed.leaf
            if isinstance(fork, Fork) and self._goes_on(unit.placed):
                self._take(fork, unit.token, unit.chance)
        choices: dict[Hole, list[Choice]] = {}
        for unit in sorted(units, key=lambda unit: (unit.is_last, -unit.joint)):
            hole = unit.placed.leaf
            if isinstance(hole, Hole) and self._goes_on(unit.placed):
                choices.setdefault(hole, []).append((unit.at, unit.token, unit.chance))
        for hole, wanted in choices.items():
            hole.decide(wanted, self.in_order)

    def _take(self, fork: Fork, option: int, sure: float | None) -> None:
        chain = self.tree.chain_of(fork)
        if option in self.tree.affordable(fork, chain):
            self.tree.choose(fork, option, sure, chain)

    def _finish_fork(self, fork: Fork) -> None:
        chain = self.tree.chain_of(fork)
        options = self.tree.affordable(fork, chain)
        if chain is not None and len(fork.plan.leads) - 1 in options:
            self.tree.choose(fork, len(fork.plan.leads) - 1, 0.0, chain)
            return
        costs = {o: self.tree.scaffold.option_cost(fork.plan.gate, o) for o in options}
        weighed = {o: w for o, w in fork.weights.items() if o in costs}
        best = (
            max(weighed, key=lambda o: weighed[o])
            if weighed
            else min(costs, key=lambda o: costs[o])
        )
        self.tree.choose(fork, best, 0.0, chain)

    def _goes_on(self, placed: Placed) -> bool:
        """Whether every fork before a leaf was decided as the leaf expects."""
        return all(
            fork.chosen is not None and fork.chosen == fork.expected for fork in placed.after
        )


def _in_order(units: Sequence[_Unit], along: Along) -> list[_Unit]:
    """The units with each token of a slot ranked with those before it, below them also where all are certain."""
    found = []
    before: dict[Hole, float] = {}
    for unit in units:
        leaf = unit.placed.leaf
        if isinstance(leaf, Hole):
            if leaf in before:
                joint = along(math.nextafter(before[leaf], 0.0), unit.joint)
                unit = replace(unit, joint=joint)
            before[leaf] = unit.joint
        found.append(unit)
    return found


def _likely(placed: Placed) -> float:
    """The probability that a leaf will exist."""
    return math.prod(
        fork.weights.get(fork.expected, 0.0) for fork in placed.after if fork.expected is not None
    )


def _least(placed: Placed, ranks: Mapping[Fork, float]) -> float:
    """The lowest rank of the open forks before a leaf, 1 if there are none."""
    return min((ranks.get(fork, 1.0) for fork in placed.after), default=1.0)
