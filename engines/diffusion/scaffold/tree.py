"""The tree of an answer and its budget: what is laid out on the canvas next, and what decisions do to it.

The invariant: the positions that are laid out and the least that everything else needs never exceed the budget, so
the answer can be completed at every moment. Whatever needs more than its least (a longer slot, a further item, a
larger option) is paid from the slack, or is not offered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from carrara.engines.diffusion.scaffold.forms import At, Form, Gate, Items, Literal, Ref, Seq, Slot
from carrara.engines.diffusion.scaffold.nodes import (
    Chain,
    Fork,
    Group,
    Hole,
    Leaf,
    Node,
    OpenEnd,
    Pinned,
    Step,
    leaves,
)
from carrara.engines.diffusion.scaffold.scaffold import Scaffold

_SHOWN_DEEP = 3


@dataclass(frozen=True, slots=True)
class Budget:
    """How room is given out.

    `tokens` canvas positions for the whole answer, `window` of them refined at a time. A slot begins with
    `slot_tokens` and, if slots may grow, gets up to `slot_most`. `ahead` items of an open list are shown before
    it is known that they exist, more as it gets longer. References nest at most `depth` deep.
    """

    tokens: int = 512
    window: int = 128
    slot_tokens: int = 24
    slot_most: int = 96
    ahead: int = 2
    depth: int = 24


@dataclass(frozen=True, slots=True)
class Placed:
    """A leaf on the canvas from position `start` on. It exists only if the forks `after` go as expected;
    a fork that is open has `shown` tokens of its expected lead pinned behind its masks."""

    leaf: Leaf
    start: int
    after: tuple[Fork, ...]
    shown: tuple[int, ...] = ()


@dataclass(slots=True, eq=False)
class Tree:
    """A partly decided answer. Mutable; belongs to one canvas."""

    scaffold: Scaffold
    budget: Budget
    root: Node = field(init=False)
    slack: int = field(init=False, default=0)
    placed: list[Placed] = field(init=False, default_factory=list)
    length: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.root = self.make(self.scaffold.program.root, 0)

    # Building

    def make(self, form: Form, level: int) -> Node:
        """A fresh node; what depends on decisions is made when they are taken."""
        match form:
            case Literal(text):
                return Pinned(text, self.scaffold.lexicon.spell(text))
            case Slot():
                return Hole(form, self.scaffold.automaton(form), self.scaffold.lexicon)
            case Seq(parts):
                return Group([self.make(part, level) for part in parts])
            case At(_, part):
                return Step(form, level, self.make(part, level))
            case Ref(name):
                return self.make(self.scaffold.program.rules[name], level + 1)
            case Items():
                return Chain(form, level, [self.make(form.first, level)])
            case Gate():
                return Fork(self.scaffold.plan(form), level, form.expect)

    def positions(self, node: Node) -> int:
        """Canvas positions that a node takes now, or needs at least where it is not laid out."""
        match node:
            case OpenEnd():
                return 0
            case Pinned():
                return len(node.ids)
            case Hole():
                if node.emitted:
                    return len(node.clean)
                return len(node.ids) or self.scaffold.cost(node.slot)
            case Step():
                return self.positions(node.part)
            case Group():
                return sum(map(self.positions, node.parts))
            case Fork():
                return self._fork_positions(node)
            case Chain():
                return self._chain_positions(node)

    def _fork_positions(self, fork: Fork) -> int:
        body = 0 if fork.body is None else self.positions(fork.body)
        if fork.chosen is not None:
            return (len(fork.lead) if fork.emitted else fork.length) + body
        least = self.scaffold.cost(fork.plan.gate)
        if fork.body is not None and fork.expected is not None:
            return max(least, fork.plan.length(fork.expected) + body)
        return max(least, fork.width) if fork.allowed else least

    def _chain_positions(self, chain: Chain) -> int:
        total = sum(map(self.positions, chain.entries))
        for number, fork in enumerate(chain.forks):
            if fork.chosen is not None:
                total += len(fork.lead) if fork.emitted else fork.length
            elif number + 1 < len(chain.entries):
                total += fork.plan.length(fork.expected or 0)
        if len(chain.entries) > len(chain.forks) or chain.forks[-1].chosen is None:
            total += self._end_cost(chain, len(chain.entries) - 1)
        return total

    def _end_cost(self, chain: Chain, last: int) -> int:
        more = max(0, chain.items.least - chain.counted(last))
        return self.scaffold.end_cost(chain.items, chain.option(last), more)

    # Laying out

    def lay(self) -> list[Placed]:
        """Put the next leaves on the canvas, as many as the window holds."""
        self.slack = self.budget.tokens - self.positions(self.root)
        self.placed, self.length = [], 0
        self._visit(self.root, ())
        return self.placed

    def _visit(self, node: Node, after: tuple[Fork, ...]) -> bool:
        """Lay out a node; False once the window is full."""
        match node:
            case OpenEnd():
                return True
            case Pinned():
                return node.emitted or self._place(node, len(node.ids), after)
            case Hole():
                return node.emitted or self._lay_hole(node, after)
            case Step():
                return self._visit(node.part, after)
            case Group():
                return all(self._visit(part, after) for part in node.parts)
            case Fork():
                return self._lay_fork(node, after)
            case Chain():
                return self._lay_chain(node, after)

    def _place(
        self, leaf: Leaf, length: int, after: tuple[Fork, ...], shown: tuple[int, ...] = ()
    ) -> bool:
        if self.length and self.length + length > self.budget.window:
            return False
        self.placed.append(Placed(leaf, self.length, after, shown))
        self.length += length
        return True

    def _lay_hole(self, hole: Hole, after: tuple[Fork, ...]) -> bool:
        length = len(hole.ids)
        if not length:
            least = self.scaffold.cost(hole.slot)
            wanted = self.scaffold.usual_length(hole.slot, self.budget.slot_tokens)
            length = least + max(0, min(wanted - least, self.slack))
        elif hole.wants_more:
            length += self._growth(hole)
        hole.wants_more = False
        if self.length and self.length + length > self.budget.window:
            return False
        if length > len(hole.ids):
            self.slack -= length - (len(hole.ids) or self.scaffold.cost(hole.slot))
            hole.lay(length)
        return self._place(hole, length, after)

    def _growth(self, hole: Hole) -> int:
        most = min(self.budget.slot_most, self.scaffold.longest(hole.slot))
        room = most - len(hole.ids)
        return max(0, min(self.budget.slot_tokens, room, self.slack))

    def _lay_fork(self, fork: Fork, after: tuple[Fork, ...]) -> bool:
        if fork.chosen is None and not fork.allowed:
            self._offer(fork)
        if fork.chosen is not None:
            if not fork.emitted and not self._place(fork, fork.length, after):
                return False
            return fork.body is None or self._visit(fork.body, after)
        expected = fork.expected
        if expected is not None and fork.body is None and len(after) < _SHOWN_DEEP:
            self._show(fork, expected)
        shown = fork.plan.shown(expected) if expected is not None and fork.body is not None else ()
        if not self._place(fork, fork.width + len(shown), after, shown):
            return False
        return fork.body is None or self._visit(fork.body, (*after, fork))

    def _offer(self, fork: Fork) -> None:
        """Find the options that the budget and the depth allow; a single one is taken at once."""
        gate, least = fork.plan.gate, self.scaffold.cost(fork.plan.gate)
        heights = [self.scaffold.height(option.body) for option in gate.options]
        deepest = max(self.budget.depth, fork.level + min(heights))
        allowed = [
            number
            for number, high in enumerate(heights)
            if fork.level + high <= deepest
            and self.scaffold.option_cost(gate, number) - least <= self.slack
        ]
        costs = [self.scaffold.option_cost(gate, number) for number in range(len(heights))]
        allowed = allowed or [costs.index(min(costs))]
        fork.allowed = tuple(allowed)
        if fork.expected not in allowed:
            fork.expected = None
        if len(allowed) == 1:
            self.slack -= max(0, costs[allowed[0]] - least)
            self.choose(fork, allowed[0], None)
        elif fork.plan.is_choice:
            self.slack -= fork.width - least

    def _show(self, fork: Fork, expected: int) -> None:
        """Lay out the body of the expected option of an open fork, if the slack pays for it."""
        form = fork.plan.gate.options[expected].body
        if not fork.plan.has_body(expected):
            return
        before = self._fork_positions(fork)
        fork.body = self.make(form, fork.level)
        more = self._fork_positions(fork) - before
        if more > self.slack:
            fork.body = None
        else:
            self.slack -= more

    def _lay_chain(self, chain: Chain, after: tuple[Fork, ...]) -> bool:
        ahead = max(self.budget.ahead, chain.settled_entries)
        number = 0
        while True:
            if not self._visit(chain.entries[number], after):
                return False
            fork = self._fork_after(chain, number)
            if fork is None:
                return True
            if fork.chosen is not None:
                if not fork.emitted and not self._place(fork, fork.length, after):
                    return False
                if chain.ends(fork):
                    return True
            else:
                ahead -= 1
                if ahead >= 0:
                    self._extend(chain, fork, number)
                more = number + 1 < len(chain.entries)
                shown = fork.plan.shown(fork.expected or 0) if more else ()
                if not self._place(fork, fork.width + len(shown), after, shown):
                    return False
                if not more:
                    return True
                after = (*after, fork)
            number += 1

    def _fork_after(self, chain: Chain, number: int) -> Fork | None:
        """The fork behind an entry, made or brought up to date with what was decided before it."""
        gate = chain.items.gate(chain.option(number))
        if number < len(chain.forks):
            fork = chain.forks[number]
            if fork.chosen is not None:
                return fork
            if fork.plan.gate is not gate:
                fork.plan, fork.expected = self.scaffold.plan(gate), gate.expect
        else:
            fork = Fork(self.scaffold.plan(gate), chain.level, gate.expect)
            chain.forks.append(fork)
        fork.allowed = self._ways_on(chain, number)
        if fork.expected not in fork.allowed or fork.expected == len(gate.options) - 1:
            fork.expected = None
            del chain.entries[number + 1 :], chain.forks[number + 1 :]
        if len(fork.allowed) == 1:
            self.choose(fork, fork.allowed[0], None, chain)
        return fork

    def _ways_on(self, chain: Chain, number: int) -> tuple[int, ...]:
        """The options behind an entry that the list's limits, the budget and the depth allow."""
        items, count = chain.items, chain.counted(number)
        gate = items.gate(chain.option(number))
        end = len(gate.options) - 1
        found = []
        for option in range(end):
            if option == 0 and items.most is not None and count >= items.most:
                continue
            deep = chain.level + self.scaffold.height(items.later) > self.budget.depth
            if deep and count >= items.least:
                continue
            if number + 1 < len(chain.entries) or self._entry_cost(chain, number, option) <= self.slack:
                found.append(option)
        if count >= items.least:
            found.append(end)
        return tuple(found) or (0,)

    def _entry_cost(self, chain: Chain, number: int, option: int) -> int:
        """What one more entry takes from the slack."""
        items, plan = chain.items, self.scaffold.plan(chain.items.gate(chain.option(number)))
        lead = plan.length(option)
        more = max(0, items.least - chain.counted(number) - (option == 0))
        end = self.scaffold.end_cost(items, option, more)
        return lead + self.scaffold.cost(items.later) + end - self._end_cost(chain, number)

    def _extend(self, chain: Chain, fork: Fork, number: int) -> None:
        """Show the entry behind an open fork, if there is one to expect and the slack pays for it."""
        if number + 1 < len(chain.entries) or fork.expected is None:
            return
        cost = self._entry_cost(chain, number, fork.expected)
        if cost <= self.slack:
            self.slack -= cost
            chain.entries.append(self.make(chain.items.later, chain.level))

    # Deciding

    def chain_of(self, fork: Fork) -> Chain | None:
        """The list that a fork belongs to, None for other gates."""
        return next((c for c in _chains(self.root) if any(f is fork for f in c.forks)), None)

    def affordable(self, fork: Fork, chain: Chain | None) -> tuple[int, ...]:
        """Those of a fork's options that can be paid for now."""
        slack = self.budget.tokens - self.positions(self.root)
        if chain is None:
            mine = self._fork_positions(fork)
            gate = fork.plan.gate
            return tuple(
                option
                for option in fork.allowed
                if (option == fork.expected and fork.body is not None)
                or self.scaffold.option_cost(gate, option) - mine <= slack
            )
        number = next(i for i, f in enumerate(chain.forks) if f is fork)
        if number + 1 < len(chain.entries):
            return fork.allowed
        end = len(fork.plan.leads) - 1
        return tuple(
            option
            for option in fork.allowed
            if option == end or self._entry_cost(chain, number, option) <= slack
        ) or fork.allowed[:1]

    def choose(self, fork: Fork, option: int, sure: float | None, chain: Chain | None = None) -> None:
        """Take an option. What was shown behind the fork stays only if it was expected."""
        fork.chosen, fork.sure = option, sure
        if chain is not None:
            number = next(i for i, f in enumerate(chain.forks) if f is fork)
            if chain.ends(fork):
                del chain.entries[number + 1 :], chain.forks[number + 1 :]
            elif number + 1 == len(chain.entries):
                chain.entries.append(self.make(chain.items.later, chain.level))
            return
        if fork.body is None or option != fork.expected:
            has_body = fork.plan.has_body(option)
            form = fork.plan.gate.options[option].body
            fork.body = self.make(form, fork.level) if has_body else None

    def emit(self) -> list[int]:
        """Take settled leaves off the canvas from its start on; their clean tokens."""
        found: list[int] = []
        for leaf in leaves(self.root):
            if not leaf.is_settled:
                break
            if not leaf.emitted:
                found += clean(leaf)
                leaf.emitted = True
        return found

    @property
    def is_finished(self) -> bool:
        return all(leaf.is_settled for leaf in leaves(self.root))


def clean(leaf: Leaf) -> tuple[int, ...] | list[int]:
    """The tokens of a settled leaf in the answer."""
    match leaf:
        case Pinned():
            return leaf.ids
        case Hole():
            return leaf.clean
        case Fork():
            return leaf.lead
        case OpenEnd():
            return ()


def _chains(node: Node) -> Iterator[Chain]:
    match node:
        case Chain():
            yield node
            for entry in node.entries:
                yield from _chains(entry)
        case Group():
            for part in node.parts:
                yield from _chains(part)
        case Step():
            yield from _chains(node.part)
        case Fork() if node.body is not None:
            yield from _chains(node.body)
