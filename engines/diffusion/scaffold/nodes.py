"""A partly decided answer as a tree of nodes. Leaves hold tokens; forks and chains hold decisions.

`sure` is the confidence with which something was decided; None means that the model had no say (pinned, or
the only possibility).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from carrara.engines.diffusion.scaffold.forms import At, Items, Slot
from carrara.engines.diffusion.scaffold.gates import GatePlan
from carrara.engines.diffusion.scaffold.lexicon import Lexicon, Row
from carrara.engines.diffusion.scaffold.lift import PAD
from carrara.engines.diffusion.scaffold.tokens import TokenAutomaton


@dataclass(slots=True, eq=False)
class Pinned:
    """A literal."""

    text: str
    ids: tuple[int, ...]
    emitted: bool = False

    @property
    def is_settled(self) -> bool:
        return True


@dataclass(slots=True, eq=False)
class Hole:
    """A slot on the canvas. `ids` are its tokens, None where undecided; empty until it is laid out.

    Every undecided position can always be filled so that the whole is a text of the slot's language.
    """

    slot: Slot
    automaton: TokenAutomaton
    lexicon: Lexicon
    ids: list[int | None] = field(default_factory=list)
    sure: list[float | None] = field(default_factory=list)
    emitted: bool = False
    wants_more: bool = False
    _forward: list[int] = field(default_factory=list)
    _backward: list[int] = field(default_factory=list)

    @property
    def is_settled(self) -> bool:
        return bool(self.ids) and None not in self.ids

    @property
    def clean(self) -> list[int]:
        """The decided tokens without pads."""
        return [i for i in self.ids if i is not None and i != self.lexicon.pad_id]

    def lay(self, length: int) -> None:
        """Make room for `length` tokens, at least as many as there are."""
        more = length - len(self.ids)
        self.ids += [None] * more
        self.sure += [None] * more
        self._follow()

    def row(self, at: int) -> Row:
        """What may stand at a position, given what is decided around it: never nothing, and at a decided one its own
        token, too."""
        return self.lexicon.row(self.automaton, self._classes(at))

    def fix(self, at: int, token: int, sure: float | None) -> bool:
        """Decide a position, and what follows from it; False if the token no longer fits there."""
        kind = int(self.automaton.table.class_of[token])
        if self.ids[at] is not None or not self._classes(at) >> kind & 1:
            return False
        self.ids[at], self.sure[at] = token, sure
        self._follow()
        return True

    def edit(self, at: int, token: int, sure: float) -> bool:
        """Put another token at a decided position; False if it does not fit what stands around it, what followed from
        other decisions included."""
        kind = int(self.automaton.table.class_of[token])
        if self.ids[at] is None or not self._classes(at) >> kind & 1:
            return False
        self.ids[at], self.sure[at] = token, sure
        self._follow()
        return True

    def write(self, ids: Sequence[int], spare: int) -> bool:
        """Fill the hole with the tokens of a text and `spare` pads; False if the text does not fit."""
        if not self.automaton.accepts_tokens(ids):
            return False
        spare = max(spare, 0 if ids else 1)
        self.ids = [*ids, *[self.lexicon.pad_id] * spare]
        self.sure = [None] * len(self.ids)
        self._look_around()
        return True

    def reopen(self, ids: Sequence[int | None]) -> None:
        """Put other tokens into a hole that was filled, None at what is undecided; there any number of pads may stand,
        also between tokens, so that the text may get shorter."""
        self.automaton = self.lexicon.gapped(self.automaton)
        self.ids, self.sure = list(ids), [None] * len(ids)
        self._follow()

    def blur(self, positions: Iterable[int]) -> None:
        """Make positions undecided again."""
        for at in positions:
            self.ids[at] = None
        self._follow()

    def finish(self) -> None:
        """Decide what is left without the model: the shortest way from the left, at confidence 0."""
        for at, token in enumerate(self.ids):
            if token is None:
                classes = self._classes(at)
                if classes >> PAD & 1:
                    self.fix(at, self.lexicon.pad_id, 0.0)
                else:
                    ending = self._ending(at, classes)
                    row = self.lexicon.row(self.automaton, ending or classes)
                    self.fix(at, int(row.mask.argmax()), 0.0)

    def opens(self, at: int, token: int) -> bool:
        """Whether a token at the last position would leave the text unfinished, were there more room."""
        kind = 1 << int(self.automaton.table.class_of[token])
        return not self.automaton.forward(self._forward[at], kind) & self.automaton.ends

    def roomy_row(self, at: int) -> Row:
        """What might stand at a position if the slot had no end."""
        everywhere = (1 << len(self.automaton.table.target) * self.automaton.width) - 1
        after = everywhere | self.automaton.ends
        return self.lexicon.row(self.automaton, self.automaton.fitting(self._forward[at], after))

    def _ending(self, at: int, classes: int) -> int:
        """Those of the classes after which the text could end."""
        found, automaton = 0, self.automaton
        for number in range(classes.bit_length()):
            kind = 1 << number
            if classes & kind and automaton.forward(self._forward[at], kind) & automaton.done:
                found |= kind
        return found

    def _classes(self, at: int) -> int:
        return self.automaton.fitting(self._forward[at], self._backward[at + 1])

    def _follow(self) -> None:
        """Fill in what follows from what was decided: positions where one token only is possible.

        This takes no possibility away from an undecided position. It does from decided ones, as what follows stands
        from then on like any other token.
        """
        self._look_around()
        forced = {
            at: only
            for at, token in enumerate(self.ids)
            if token is None and (only := self.row(at).only) is not None
        }
        for at, token in forced.items():
            self.ids[at] = token
        if forced:
            self._look_around()

    def _look_around(self) -> None:
        automaton, class_of = self.automaton, self.automaton.table.class_of
        kinds = [-1 if token is None else 1 << int(class_of[token]) for token in self.ids]
        self._forward = [automaton.start]
        for kind in kinds:
            self._forward.append(automaton.forward(self._forward[-1], kind))
        backward = [automaton.ends]
        for kind in reversed(kinds):
            backward.append(automaton.backward(backward[-1], kind))
        self._backward = backward[::-1]


@dataclass(slots=True, eq=False)
class Fork:
    """A gate. While it is open, `body` is that of the option `expected`, refined along."""

    plan: GatePlan
    level: int
    expected: int | None = None
    allowed: tuple[int, ...] = ()
    chosen: int | None = None
    sure: float | None = None
    body: Node | None = None
    emitted: bool = False
    weights: dict[int, float] = field(default_factory=dict)

    @property
    def is_settled(self) -> bool:
        return self.chosen is not None

    def reopen(self) -> None:
        """Make it undecided again. What stands behind it is shown on, as what is expected."""
        if self.body is None:
            self.expected, self.allowed = self.plan.gate.expect, ()
        else:
            self.expected, self.allowed = self.chosen, tuple(range(len(self.plan.leads)))
        self.chosen = self.sure = None

    @property
    def lead(self) -> tuple[int, ...]:
        """The tokens of the chosen option's lead."""
        return () if self.chosen is None else self.plan.leads[self.chosen]

    @property
    def length(self) -> int:
        """Positions of the settled gate while it is on the canvas."""
        return max(len(self.lead), self.width)

    @property
    def width(self) -> int:
        """Positions of the open gate itself."""
        if self.plan.is_choice and 0 < len(self.allowed) < len(self.plan.leads):
            return max(len(self.plan.leads[option]) for option in self.allowed)
        return self.plan.width


@dataclass(slots=True, eq=False)
class Chain:
    """A list: entries with a fork after each; the last option of a fork ends it."""

    items: Items
    level: int
    entries: list[Node]
    forks: list[Fork] = field(default_factory=list)

    def option(self, number: int) -> int:
        """The option that began entry `number`, as decided or as expected."""
        if number == 0:
            return 0
        fork = self.forks[number - 1]
        chosen = fork.chosen if fork.chosen is not None else fork.expected
        return 0 if chosen is None else chosen

    def counted(self, number: int) -> int:
        """How many of the entries up to `number` count towards the list's limits."""
        return sum(self.option(i) == 0 for i in range(number + 1))

    @property
    def is_closed(self) -> bool:
        return bool(self.forks) and self.ends(self.forks[-1])

    @staticmethod
    def ends(fork: Fork) -> bool:
        return fork.chosen == len(fork.plan.leads) - 1

    @property
    def settled_entries(self) -> int:
        """Entries that are known to be there."""
        open_fork = next((i for i, fork in enumerate(self.forks) if fork.chosen is None), None)
        return len(self.entries) if open_fork is None else open_fork + 1


@dataclass(slots=True, eq=False)
class OpenEnd:
    """Stands for what is not made yet: a list goes on or ends here."""

    emitted: bool = False

    @property
    def is_settled(self) -> bool:
        return False


@dataclass(slots=True, eq=False)
class Group:
    parts: list[Node]


@dataclass(slots=True, eq=False)
class Step:
    """The part of a value below a key or an index."""

    form: At
    level: int
    part: Node


Leaf = Pinned | Hole | Fork | OpenEnd
Node = Leaf | Chain | Group | Step


def leaves(node: Node) -> Iterator[Leaf]:
    """The leaves that are known to belong to the answer, in order. What depends on an open fork is left out."""
    match node:
        case Fork():
            yield node
            if node.chosen is not None and node.body is not None:
                yield from leaves(node.body)
        case Pinned() | Hole() | OpenEnd():
            yield node
        case Step():
            yield from leaves(node.part)
        case Group():
            for part in node.parts:
                yield from leaves(part)
        case Chain():
            for number, entry in enumerate(node.entries[: node.settled_entries]):
                if number:
                    yield node.forks[number - 1]
                yield from leaves(entry)
            known = node.settled_entries
            yield node.forks[known - 1] if known <= len(node.forks) else OpenEnd()
