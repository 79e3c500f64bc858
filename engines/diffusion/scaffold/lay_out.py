"""Training canvases: a gold value laid out exactly as the engine lays out an answer that it decodes.

The result holds the tokens that are right at every position. A trainer masks positions of its choice among those
that belong to a decision and asks for the right tokens back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from carrara.engines.contract import Contract
from carrara.engines.diffusion.scaffold import read
from carrara.engines.diffusion.scaffold.compile import compiled
from carrara.engines.diffusion.scaffold.fill import Filler
from carrara.engines.diffusion.scaffold.lexicon import Lexicon, Vocabulary
from carrara.engines.diffusion.scaffold.nodes import Chain, Fork, Group, Hole, Node, Pinned, Step
from carrara.engines.diffusion.scaffold.room import Budget
from carrara.engines.diffusion.scaffold.scaffold import Scaffold
from carrara.engines.diffusion.scaffold.tree import Tree
from carrara.engines.errors import CarraraError

PINNED = -1
_ENDLESS_BUDGET = Budget(tokens=1 << 20, window=1 << 20)
_SHOWN_DEEP = 3


@dataclass(frozen=True, slots=True)
class Spare:
    """What a canvas shows beyond the answer, as it does in decoding; each is asked anew for every place.

    `tokens`: pads behind a slot's text. `items`: items shown behind a list's end, whose slots are all pads.
    `ways`: whether behind a gate the option that is usual is shown although another one is right.
    """

    tokens: Callable[[], int] = lambda: 0
    items: Callable[[], int] = lambda: 0
    ways: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class LaidOut:
    """A gold answer on a canvas.

    ids: the right token at each position.
    units: the decision that each position belongs to (a slot or a gate, numbered), PINNED for literals.
    gates: the units that are gates. open: gates that must be masked, since behind them a way is shown that the
    gold does not go. clean: the answer's tokens without pads, gates and unused items; text: what they write.
    """

    ids: tuple[int, ...]
    units: tuple[int, ...]
    gates: frozenset[int]
    open: frozenset[int]
    clean: tuple[int, ...]
    text: str


def lay_out(
    contract: Contract, value: Any, tokenizer: Vocabulary | Lexicon, spare: Spare = Spare()
) -> LaidOut:
    """The canvas of `value` under `contract`.

    Give a `Lexicon` instead of a tokenizer to reuse automata between calls. A property that may be null and that the
    value lacks is written as null.

    Raises:
        CarraraError: the value does not fit the contract, or no scaffold holds the contract.
    """
    lexicon = tokenizer if isinstance(tokenizer, Lexicon) else Lexicon(tokenizer)
    scaffold = Scaffold(compiled(contract), lexicon)
    tree = Tree(scaffold, _ENDLESS_BUDGET)
    Filler(tree, spare.tokens).fill(tree.root, value)
    text = read.text(tree.root)
    found = contract.parse(text)
    if not _holds(value, found):
        raise CarraraError(
            f"the canvas of {value!r:.80} reads {found!r:.80}: not all of it has a place"
        )
    composer = _Composer(tree, spare)
    composer.add(tree.root, 0, void=False)
    return LaidOut(
        tuple(composer.ids),
        tuple(composer.units),
        frozenset(composer.gates),
        frozenset(composer.open),
        tuple(tree.emit()),
        text,
    )


@dataclass(slots=True)
class _Composer:
    tree: Tree
    spare: Spare
    ids: list[int] = field(default_factory=list)
    units: list[int] = field(default_factory=list)
    gates: set[int] = field(default_factory=set)
    open: set[int] = field(default_factory=set)
    count: int = 0

    def add(self, node: Node, deep: int, void: bool) -> None:
        """Put a node on the canvas. In a `void` one all slots and gates are pads."""
        match node:
            case Pinned():
                self._put(node.ids)
            case Hole():
                self._add_hole(node, void)
            case Step():
                self.add(node.part, deep, void)
            case Group():
                for part in node.parts:
                    self.add(part, deep, void)
            case Fork():
                self._add_fork(node, deep, void)
            case Chain():
                self._add_chain(node, deep, void)

    def _add_hole(self, hole: Hole, void: bool) -> None:
        if void:
            lexicon, scaffold = self.tree.scaffold.lexicon, self.tree.scaffold
            length = scaffold.cost(hole.slot) + self.spare.tokens()
            self._put([lexicon.pad_id] * length, self._unit())
        else:
            self._put([token for token in hole.ids if token is not None], self._unit())

    def _add_fork(self, fork: Fork, deep: int, void: bool) -> None:
        expected = fork.plan.gate.expect
        usual = expected is not None and fork.plan.has_body(expected)
        if void:
            self._put_gate(fork, None)
            if usual and expected is not None and deep < _SHOWN_DEEP:
                self._put(fork.plan.shown(expected))
                self._show(fork, expected, deep)
            return
        if usual and expected is not None and fork.chosen != expected and self.spare.ways():
            self.open.add(self._put_gate(fork, fork.chosen))
            self._put(fork.plan.shown(expected))
            self._show(fork, expected, deep)
            return
        self._put_gate(fork, fork.chosen)
        self._put(fork.lead[fork.width :] if not fork.plan.is_choice else ())
        if fork.body is not None:
            self.add(fork.body, deep, void)

    def _show(self, fork: Fork, expected: int, deep: int) -> None:
        body = self.tree.make(fork.plan.gate.options[expected].body, fork.level)
        self.add(body, deep + 1, void=True)

    def _add_chain(self, chain: Chain, deep: int, void: bool) -> None:
        if void:
            self.add(chain.entries[0], deep, void)
            gate = chain.items.gate(0)
            self._put_gate(Fork(self.tree.scaffold.plan(gate), chain.level, gate.expect), None)
            return
        for number, entry in enumerate(chain.entries):
            self.add(entry, deep, void)
            fork = chain.forks[number]
            unit = self._put_gate(fork, fork.chosen)
            self._put(fork.lead[fork.width :])
        self._add_unused(chain, unit, deep)

    def _add_unused(self, chain: Chain, unit: int, deep: int) -> None:
        """Items behind the end of a list, as they are shown while its last gate is open."""
        items, last = chain.items, chain.option(len(chain.entries) - 1)
        room = self.spare.items()
        if items.most is not None:
            room = min(room, items.most - chain.counted(len(chain.entries) - 1))
        if room > 0:
            self.open.add(unit)
        for _ in range(room):
            gate = items.gate(last)
            expected = gate.expect or 0
            self._put(self.tree.scaffold.plan(gate).shown(expected))
            self.add(self.tree.make(items.later, chain.level), deep + 1, void=True)
            last = expected
            gate = items.gate(last)
            self._put_gate(Fork(self.tree.scaffold.plan(gate), chain.level, gate.expect), None)

    def _put_gate(self, fork: Fork, option: int | None) -> int:
        """The positions of a gate: what all its leads begin with is pinned, the rest is one unit."""
        plan, pad = fork.plan, self.tree.scaffold.lexicon.pad_id
        if not fork.allowed:
            fork.allowed = tuple(range(len(plan.leads)))
        self._put(plan.leads[0][: plan.common])
        unit = self._unit()
        self.gates.add(unit)
        width = fork.width
        right = [pad] * width if option is None else plan.taken(option, width, pad)[:width]
        self._put(right[plan.common :], unit)
        return unit

    def _unit(self) -> int:
        self.count += 1
        return self.count - 1

    def _put(self, ids: tuple[int, ...] | list[int], unit: int = PINNED) -> None:
        self.ids += ids
        self.units += [unit] * len(ids)


def _holds(value: Any, found: Any) -> bool:
    """Whether `found` is `value`, up to properties that were added as null."""
    if isinstance(value, dict) and isinstance(found, dict):
        added = {key for key in found if key not in value}
        return value.keys() <= found.keys() and all(
            found[key] is None if key in added else _holds(value[key], found[key]) for key in found
        )
    if isinstance(value, list) and isinstance(found, list):
        return len(value) == len(found) and all(map(_holds, value, found))
    if isinstance(value, str) and not isinstance(found, str):
        return value == str(found)
    return bool(value == found)


__all__ = ["PINNED", "LaidOut", "Spare", "lay_out"]
