"""A partly decided answer as a tree of nodes. Leaves hold tokens; forks and chains hold decisions.

`sure` is the confidence with which something was decided; None means that the model had no say (pinned, or
the only possibility).

An answer leaves the canvas from its start on. How many parts of a group and entries of a list are over, and how many
positions those take, is kept with them (`Over`), so that what each pass asks of a tree costs no more for what is final.
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


Choice = tuple[int, int, float | None]
"""A position, its token, and how sure that is."""


@dataclass(slots=True, eq=False)
class Hole:
    """A slot on the canvas. `ids` are its tokens, None where undecided; empty until it is laid out.

    Every undecided position can always be filled so that the whole is a text of the slot's language.

    Which tokens fit at a position is told by the states that what stands before it can reach (`_before`, from the start
    on) and those from which what stands behind it can be finished (`_behind`, from the end on). Both are kept as far as
    nothing changed.
    """

    slot: Slot
    automaton: TokenAutomaton
    lexicon: Lexicon
    ids: list[int | None] = field(default_factory=list)
    sure: list[float | None] = field(default_factory=list)
    emitted: bool = False
    wants_more: bool = False
    _before: list[int] = field(init=False)
    _behind: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._look_anew()

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
        self._look_anew()
        self._follow()

    def row(self, at: int) -> Row:
        """What may stand at a position, given what is decided around it: never nothing, and at a decided one its own
        token, too."""
        return self.lexicon.row(self.automaton, self._classes(at))

    def decide(self, choices: Iterable[Choice], in_order: bool = False) -> None:
        """Decide positions one after the other, each with its token if that still fits, then all that follows from it.
        `in_order`: what does not fit ends it."""
        for at, token, sure in choices:
            if self.ids[at] is None and not self._take_only(at):
                if self._fits(at, token):
                    self._put(at, token, sure)
                elif in_order:
                    break
        self._follow()

    def edit(self, at: int, token: int, sure: float) -> bool:
        """Put another token at a decided position; False if it does not fit what stands around it, what followed from
        other decisions included."""
        if self.ids[at] is None or not self._fits(at, token):
            return False
        self._put(at, token, sure)
        self._follow()
        return True

    def write(self, ids: Sequence[int], spare: int) -> bool:
        """Fill the hole with the tokens of a text and `spare` pads; False if the text does not fit."""
        if not self.automaton.accepts_tokens(ids):
            return False
        spare = max(spare, 0 if ids else 1)
        self.ids = [*ids, *[self.lexicon.pad_id] * spare]
        self.sure = [None] * len(self.ids)
        self._look_anew()
        return True

    def reopen(self, ids: Sequence[int | None]) -> None:
        """Put other tokens into a hole that was filled, None at what is undecided; there any number of pads may stand,
        also between tokens, so that the text may get shorter."""
        self.automaton = self.lexicon.gapped(self.automaton)
        self.ids, self.sure = list(ids), [None] * len(ids)
        self._look_anew()
        self._follow()

    def blur(self, positions: Iterable[int]) -> None:
        """Make positions undecided again."""
        for at in positions:
            self.ids[at] = None
        self._look_anew()
        self._follow()

    def finish(self) -> None:
        """Decide what is left without the model: the shortest way from the left, at confidence 0."""
        for at, token in enumerate(self.ids):
            if token is None and not self._take_only(at):
                classes = self._classes(at)
                if classes >> PAD & 1:
                    self._put(at, self.lexicon.pad_id, 0.0)
                else:
                    ending = self._ending(at, classes)
                    row = self.lexicon.row(self.automaton, ending or classes)
                    self._put(at, int(row.mask.argmax()), 0.0)

    def opens(self, at: int, token: int) -> bool:
        """Whether a token at the last position would leave the text unfinished, were there more room."""
        kind = 1 << int(self.automaton.table.class_of[token])
        return not self.automaton.forward(self._states_before(at), kind) & self.automaton.ends

    def roomy_row(self, at: int) -> Row:
        """What might stand at a position if the slot had no end."""
        everywhere = (1 << len(self.automaton.table.target) * self.automaton.width) - 1
        after = everywhere | self.automaton.ends
        return self.lexicon.row(
            self.automaton, self.automaton.fitting(self._states_before(at), after)
        )

    def _ending(self, at: int, classes: int) -> int:
        """Those of the classes after which the text could end."""
        found, automaton, before = 0, self.automaton, self._states_before(at)
        for number in range(classes.bit_length()):
            kind = 1 << number
            if classes & kind and automaton.forward(before, kind) & automaton.done:
                found |= kind
        return found

    def _classes(self, at: int) -> int:
        return self.automaton.fitting(self._states_before(at), self._states_behind(at))

    def _fits(self, at: int, token: int) -> bool:
        return bool(self._classes(at) >> int(self.automaton.table.class_of[token]) & 1)

    def _put(self, at: int, token: int, sure: float | None) -> None:
        self.ids[at], self.sure[at] = token, sure
        del self._before[at + 1 :], self._behind[len(self.ids) - at :]

    def _take_only(self, at: int) -> bool:
        """Put the only token that is possible at a position there, if it is the only one."""
        only = self.row(at).only
        if only is not None:
            self._put(at, only, None)
        return only is not None

    def _follow(self) -> None:
        """Fill in what follows from what was decided: positions where one token only is possible.

        This takes no possibility away from an undecided position. It does from decided ones, as what follows stands
        from then on like any other token.
        """
        undecided = [at for at, token in enumerate(self.ids) if token is None]
        forced = [(at, only) for at in undecided if (only := self.row(at).only) is not None]
        for at, token in forced:
            self._put(at, token, None)

    def _states_before(self, at: int) -> int:
        known = self._before
        while len(known) <= at:
            known.append(self.automaton.forward(known[-1], self._kind(len(known) - 1)))
        return known[at]

    def _states_behind(self, at: int) -> int:
        known, last = self._behind, len(self.ids) - 1
        while len(known) <= last - at:
            known.append(self.automaton.backward(known[-1], self._kind(last + 1 - len(known))))
        return known[last - at]

    def _kind(self, at: int) -> int:
        """The class of the token at a position, as a bit; -1 where any may stand."""
        token = self.ids[at]
        return -1 if token is None else 1 << int(self.automaton.table.class_of[token])

    def _look_anew(self) -> None:
        self._before, self._behind = [self.automaton.start], [self.automaton.ends]


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


@dataclass(slots=True)
class Over:
    """The beginning of a group or list that was taken off the canvas as a whole: how many parts, or entries with the
    forks behind them; the positions that they take; how many of the entries count towards the list's limits."""

    parts: int = 0
    positions: int = 0
    counted: int = 0


@dataclass(slots=True, eq=False)
class Chain:
    """A list: entries with a fork after each; the last option of a fork ends it."""

    items: Items
    level: int
    entries: list[Node]
    forks: list[Fork] = field(default_factory=list)
    over: Over = field(default_factory=Over)

    def option(self, number: int) -> int:
        """The option that began entry `number`, as decided or as expected."""
        if number == 0:
            return 0
        fork = self.forks[number - 1]
        chosen = fork.chosen if fork.chosen is not None else fork.expected
        return 0 if chosen is None else chosen

    def counted(self, number: int) -> int:
        """How many of the entries up to `number`, the last that is over or a later one, count towards the list's
        limits."""
        later = range(self.over.parts, number + 1)
        return self.over.counted + sum(self.option(i) == 0 for i in later)

    def number(self, fork: Fork) -> int:
        """Which of the entries a fork that is not over stands behind.

        Raises:
            ValueError: none of them.
        """
        return self.forks.index(fork, self.over.parts)

    @property
    def is_closed(self) -> bool:
        return bool(self.forks) and self.ends(self.forks[-1])

    @staticmethod
    def ends(fork: Fork) -> bool:
        return fork.chosen == len(fork.plan.leads) - 1

    @property
    def settled_entries(self) -> int:
        """Entries that are known to be there."""
        later = range(self.over.parts, len(self.forks))
        open_fork = next((i for i in later if self.forks[i].chosen is None), None)
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
    over: Over = field(default_factory=Over)


@dataclass(slots=True, eq=False)
class Step:
    """The part of a value below a key or an index."""

    form: At
    level: int
    part: Node


Leaf = Pinned | Hole | Fork | OpenEnd
Node = Leaf | Chain | Group | Step


def leaves(node: Node, with_over: bool = True) -> Iterator[Leaf]:
    """The leaves that are known to belong to the answer, in order. What depends on an open fork is left out, and unless
    `with_over` also what is over."""
    match node:
        case Fork():
            yield node
            if node.chosen is not None and node.body is not None:
                yield from leaves(node.body, with_over)
        case Pinned() | Hole() | OpenEnd():
            yield node
        case Step():
            yield from leaves(node.part, with_over)
        case Group():
            for part in node.parts if with_over else node.parts[node.over.parts :]:
                yield from leaves(part, with_over)
        case Chain():
            known = node.settled_entries
            for number in range(0 if with_over else node.over.parts, known):
                if number and (with_over or number > node.over.parts):
                    yield node.forks[number - 1]
                yield from leaves(node.entries[number], with_over)
            if with_over or node.over.parts < len(node.entries):
                yield node.forks[known - 1] if known <= len(node.forks) else OpenEnd()
