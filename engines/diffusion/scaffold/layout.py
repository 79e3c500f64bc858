"""What stands on the canvas next: as many leaves of a tree as the window holds, from the first unsettled one on.

Slots get their room here, gates their options, and lists the items that are shown before they are known to exist.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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
)
from carrara.engines.diffusion.scaffold.tree import Tree

_SHOWN_DEEP = 3


@dataclass(frozen=True, slots=True)
class Placed:
    """A leaf on the canvas from position `start` on. It exists only if the forks `after` go as expected;
    a fork that is open has `shown` tokens of its expected lead pinned behind its masks."""

    leaf: Leaf
    start: int
    after: tuple[Fork, ...]
    shown: tuple[int, ...] = ()


def lay(tree: Tree) -> Layout:
    """Put the next leaves of a tree on the canvas. Mutates the tree: nodes are made, and single options taken."""
    layout = Layout(tree, tree.room.slack(tree.root))
    layout.visit(tree.root, ())
    return layout


@dataclass(slots=True, eq=False)
class Layout:
    """The canvas as laid out: leaves with their places, its length, and the slack that is left."""

    tree: Tree
    slack: int
    placed: list[Placed] = field(default_factory=list)
    length: int = 0

    def visit(self, node: Node, after: tuple[Fork, ...]) -> bool:
        """Lay out a node; False once the window is full."""
        match node:
            case OpenEnd():
                return True
            case Pinned():
                return node.emitted or self._place(node, len(node.ids), after)
            case Hole():
                return node.emitted or self._lay_hole(node, after)
            case Step():
                return self.visit(node.part, after)
            case Group():
                return all(self.visit(part, after) for part in node.parts[node.over.parts :])
            case Fork():
                return self._lay_fork(node, after)
            case Chain():
                return self._lay_chain(node, after)

    def _place(
        self, leaf: Leaf, length: int, after: tuple[Fork, ...], shown: tuple[int, ...] = ()
    ) -> bool:
        if self.length and self.length + length > self.tree.budget.window:
            return False
        self.placed.append(Placed(leaf, self.length, after, shown))
        self.length += length
        return True

    def _lay_hole(self, hole: Hole, after: tuple[Fork, ...]) -> bool:
        length = len(hole.ids)
        if not length:
            least = self.tree.scaffold.cost(hole.slot)
            budget = self.tree.budget
            wanted = self.tree.scaffold.usual_length(hole.slot, budget.slot_tokens, budget.grows)
            length = least + max(0, min(wanted - least, self.slack))
            self.tree.cramped |= length < wanted
        elif hole.wants_more:
            length += self._growth(hole)
        hole.wants_more = False
        if self.length and self.length + length > self.tree.budget.window:
            return False
        if length > len(hole.ids):
            self.slack -= length - (len(hole.ids) or self.tree.scaffold.cost(hole.slot))
            hole.lay(length)
        return self._place(hole, length, after)

    def _growth(self, hole: Hole) -> int:
        room = self.tree.scaffold.grown(hole.slot, self.tree.budget.slot_most) - len(hole.ids)
        return max(0, min(self.tree.budget.slot_tokens, room, self.slack))

    def _lay_fork(self, fork: Fork, after: tuple[Fork, ...]) -> bool:
        if fork.chosen is None and not fork.allowed:
            self._offer(fork)
        if fork.chosen is not None:
            if not fork.emitted and not self._place(fork, fork.length, after):
                return False
            return fork.body is None or self.visit(fork.body, after)
        expected = fork.expected
        if expected is not None and fork.body is None and len(after) < _SHOWN_DEEP:
            self._show(fork, expected)
        shown = fork.plan.shown(expected) if expected is not None and fork.body is not None else ()
        if not self._place(fork, fork.width + len(shown), after, shown):
            return False
        return fork.body is None or self.visit(fork.body, (*after, fork))

    def _offer(self, fork: Fork) -> None:
        """Find the options that the budget and the depth allow; a single one is taken at once."""
        gate, least = fork.plan.gate, self.tree.scaffold.cost(fork.plan.gate)
        costs, heights = self.tree.scaffold.options(gate)
        deepest = max(self.tree.budget.depth, fork.level + min(heights))
        allowed = [
            number
            for number, high in enumerate(heights)
            if fork.level + high <= deepest and costs[number] - least <= self.slack
        ]
        allowed = allowed or [costs.index(min(costs))]
        self.tree.cramped |= len(allowed) < len(heights)
        fork.allowed = tuple(allowed)
        if fork.expected not in allowed:
            fork.expected = None
        if len(allowed) == 1:
            self.slack -= max(0, costs[allowed[0]] - least)
            self.tree.choose(fork, allowed[0], None)
        elif fork.plan.is_choice:
            self.slack -= fork.width - least

    def _show(self, fork: Fork, expected: int) -> None:
        """Lay out the body of the expected option of an open fork, if the slack pays for it."""
        form = fork.plan.gate.options[expected].body
        if not fork.plan.has_body(expected):
            return
        before = self.tree.room.fork_positions(fork)
        fork.body = self.tree.make(form, fork.level)
        more = self.tree.room.fork_positions(fork) - before
        if more > self.slack:
            fork.body = None
        else:
            self.slack -= more

    def _lay_chain(self, chain: Chain, after: tuple[Fork, ...]) -> bool:
        ahead = max(self.tree.budget.ahead, chain.settled_entries)
        number = chain.over.parts
        if number == len(chain.entries):
            return True
        while True:
            if not self.visit(chain.entries[number], after):
                return False
            fork = self._fork_after(chain, number)
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

    def _fork_after(self, chain: Chain, number: int) -> Fork:
        """The fork behind an entry, made or brought up to date with what was decided before it."""
        gate = chain.items.gate(chain.option(number))
        if number < len(chain.forks):
            fork = chain.forks[number]
            if fork.chosen is not None:
                return fork
            if fork.plan.gate is not gate:
                fork.plan, fork.expected = self.tree.scaffold.plan(gate), gate.expect
        else:
            fork = Fork(self.tree.scaffold.plan(gate), chain.level, gate.expect)
            chain.forks.append(fork)
        fork.allowed = self._ways_on(chain, number)
        if fork.expected not in fork.allowed or fork.expected == len(gate.options) - 1:
            fork.expected = None
            del chain.entries[number + 1 :], chain.forks[number + 1 :]
        if len(fork.allowed) == 1:
            self.tree.choose(fork, fork.allowed[0], None, chain)
        return fork

    def _ways_on(self, chain: Chain, number: int) -> tuple[int, ...]:
        """The options behind an entry that the list's limits, the budget and the depth allow."""
        items, count = chain.items, chain.counted(number)
        gate = items.gate(chain.option(number))
        end = len(gate.options) - 1
        found = []
        deep = chain.level + self.tree.scaffold.height(items.later) > self.tree.budget.depth
        for option in range(0 if deep and count >= items.least else end):
            if option == 0 and items.most is not None and count >= items.most:
                continue
            if number + 1 < len(chain.entries) or self._pays(chain, number, option):
                found.append(option)
        if count >= items.least:
            found.append(end)
        return tuple(found) or (0,)

    def _pays(self, chain: Chain, number: int, option: int) -> bool:
        """Whether the slack pays for one more entry."""
        pays = self.tree.room.entry_cost(chain, number, option) <= self.slack
        self.tree.cramped |= not pays
        return pays

    def _extend(self, chain: Chain, fork: Fork, number: int) -> None:
        """Show the entry behind an open fork, if there is one to expect and the slack pays for it."""
        if number + 1 < len(chain.entries) or fork.expected is None:
            return
        cost = self.tree.room.entry_cost(chain, number, fork.expected)
        if cost <= self.slack:
            self.slack -= cost
            chain.entries.append(self.tree.make(chain.items.later, chain.level))
