"""Training canvases: a gold value laid out exactly as the engine lays out an answer that it decodes.

The result holds the tokens that are right at every position. A trainer masks positions of its choice among those
that belong to a decision and asks for the right tokens back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from carrara.engines.contract import Contract
from carrara.engines.diffusion.scaffold import read
from carrara.engines.diffusion.scaffold.compile import compiled
from carrara.engines.diffusion.scaffold.fill import Filler
from carrara.engines.diffusion.scaffold.lexicon import Lexicon, Vocabulary
from carrara.engines.diffusion.scaffold.nodes import (
    Chain,
    Fork,
    Group,
    Hole,
    Node,
    Pinned,
    Step,
    leaves,
)
from carrara.engines.diffusion.scaffold.room import Budget
from carrara.engines.diffusion.scaffold.scaffold import Scaffold
from carrara.engines.diffusion.scaffold.tree import Tree, clean
from carrara.engines.errors import CarraraError

PINNED = -1
_ENDLESS_BUDGET = Budget(tokens=1 << 20, window=1 << 20)
_SHOWN_DEEP = 3


@dataclass(frozen=True, slots=True)
class Spare:
    """How a canvas differs from the bare answer, as it does in decoding; each is asked anew for every place.

    `room`: the positions of a slot, given those that its text takes and those that decoding usually begins with
    for a free string (`Scaffold.usual_length` of this number). Fewer than the text takes cut it: so a slot looks
    before it has grown. `items`: how many items of a list are shown, given how many there are; what is behind its
    end are items whose slots are all pads. `ways`: whether behind a gate the option that is usual is shown although
    another one is right.
    """

    room: Callable[[int, Callable[[int], int]], int] = lambda taken, usual: taken
    items: Callable[[int], int] = lambda count: count
    ways: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Start:
    """A leaf begins at position `at` of the canvas, behind `clean` tokens of the answer."""

    at: int
    clean: int


@dataclass(frozen=True, slots=True)
class LaidOut:
    """A gold answer on a canvas.

    ids: the right token at each position.
    units: the decision that each position belongs to (a slot or a gate, numbered), PINNED for literals.
    gates: the units that are gates. open: gates that must be masked, since what is shown behind them is not what the
    gold has there. clean: the answer's tokens without pads, gates and unused items; text: what they write.
    starts: where a window onto the canvas may begin or end.
    """

    ids: tuple[int, ...]
    units: tuple[int, ...]
    gates: frozenset[int]
    open: frozenset[int]
    clean: tuple[int, ...]
    text: str
    starts: tuple[Start, ...]


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
    Filler(tree).fill(tree.root, value)
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
        tuple(composer.starts),
    )


@dataclass(slots=True)
class _Composer:
    tree: Tree
    spare: Spare
    ids: list[int] = field(default_factory=list)
    units: list[int] = field(default_factory=list)
    gates: set[int] = field(default_factory=set)
    open: set[int] = field(default_factory=set)
    starts: list[Start] = field(default_factory=list)
    count: int = 0
    written: int = 0

    def add(self, node: Node, deep: int, void: bool) -> None:
        """Put a node on the canvas. In a `void` one all slots and gates are pads."""
        match node:
            case Pinned():
                self._start()
                self._put(node.ids)
                self.written += 0 if void else len(node.ids)
            case Hole():
                self._start()
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
        scaffold = self.tree.scaffold
        written = [] if void else hole.clean
        room = self.spare.room(len(written), partial(scaffold.usual_length, hole.slot))
        room = max(room, scaffold.cost(hole.slot))
        pads = [scaffold.lexicon.pad_id] * (room - len(written))
        self._put([*written, *pads][:room], self._unit())
        self.written += len(written)

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
            self.written += len(fork.lead)
            self._show(fork, expected, deep)
            return
        self._put_gate(fork, fork.chosen)
        self._put(fork.lead[fork.width :] if not fork.plan.is_choice else ())
        self.written += len(fork.lead)
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
        shown = max(1, self.spare.items(len(chain.entries)))
        for number, entry in enumerate(chain.entries[:shown]):
            self.add(entry, deep, void)
            fork = chain.forks[number]
            unit = self._put_gate(fork, fork.chosen)
            self.written += len(fork.lead)
            if number + 1 < min(shown, len(chain.entries)):
                self._put(fork.lead[fork.width :])
        if shown < len(chain.entries):
            self.open.add(unit)
            for entry, fork in zip(chain.entries[shown:], chain.forks[shown:], strict=True):
                self.written += sum(len(clean(leaf)) for leaf in leaves(entry)) + len(fork.lead)
        else:
            self._add_unused(chain, unit, shown - len(chain.entries), deep)

    def _add_unused(self, chain: Chain, unit: int, room: int, deep: int) -> None:
        """Up to `room` items behind the end of a list, as they are shown while its last gate is open."""
        items, last = chain.items, chain.option(len(chain.entries) - 1)
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
        self._start()
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

    def _start(self) -> None:
        self.starts.append(Start(len(self.ids), self.written))

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


__all__ = ["PINNED", "LaidOut", "Spare", "Start", "lay_out"]
