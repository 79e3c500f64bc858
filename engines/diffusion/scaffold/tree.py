"""A partly decided answer, and what decisions do to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

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
from carrara.engines.diffusion.scaffold.room import Budget, Room
from carrara.engines.diffusion.scaffold.scaffold import Scaffold


@dataclass(slots=True, eq=False)
class Tree:
    """Mutable; belongs to one canvas. `cramped`: the budget has taken a choice away."""

    scaffold: Scaffold
    budget: Budget
    root: Node = field(init=False)
    room: Room = field(init=False)
    cramped: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.room = Room(self.scaffold, self.budget)
        self.root = self.make(self.scaffold.program.root, 0)

    def bound(self, tokens: int) -> None:
        """Give the answer room for so many tokens and no more."""
        self.budget = replace(self.budget, tokens=tokens)
        self.room = Room(self.scaffold, self.budget)

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

    def chain_of(self, fork: Fork) -> Chain | None:
        """The list that a fork belongs to, None for other gates."""
        return self.chains().get(fork)

    def chains(self) -> dict[Fork, Chain]:
        """The lists that forks belong to, of all that do and are not over: one walk for many questions."""
        return {
            fork: chain for chain in _chains(self.root) for fork in chain.forks[chain.over.parts :]
        }

    def affordable(
        self, fork: Fork, chain: Chain | None, slack: int | None = None
    ) -> tuple[int, ...]:
        """Those of a fork's options that can be paid for now, from `slack` where that is known."""
        slack = self.room.slack(self.root) if slack is None else slack
        if chain is None:
            mine = self.room.fork_positions(fork)
            costs, _ = self.scaffold.options(fork.plan.gate)
            return tuple(
                option
                for option in fork.allowed
                if (option == fork.expected and fork.body is not None)
                or costs[option] - mine <= slack
            )
        number = chain.number(fork)
        if number + 1 < len(chain.entries):
            return fork.allowed
        end = len(fork.plan.leads) - 1
        return (
            tuple(
                option
                for option in fork.allowed
                if option == end or self.room.entry_cost(chain, number, option) <= slack
            )
            or fork.allowed[:1]
        )

    def choose(
        self, fork: Fork, option: int, sure: float | None, chain: Chain | None = None
    ) -> None:
        """Take an option. What was shown behind the fork stays only if it was expected."""
        fork.chosen, fork.sure = option, sure
        if chain is not None:
            number = chain.number(fork)
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
        for leaf in leaves(self.root, with_over=False):
            if not leaf.is_settled:
                break
            if not leaf.emitted:
                found += clean(leaf)
                leaf.emitted = True
        self._leave(self.root)
        return found

    def _leave(self, node: Node) -> bool:
        """Count what is over within a node; whether all of it is."""
        match node:
            case Fork():
                return node.emitted and (node.body is None or self._leave(node.body))
            case Step():
                return self._leave(node.part)
            case Group(parts, over):
                while over.parts < len(parts) and self._leave(parts[over.parts]):
                    over.positions += self.room.positions(parts[over.parts])
                    over.parts += 1
                return over.parts == len(parts)
            case Chain(entries=entries, forks=forks, over=over):
                while over.parts < len(forks) and self._leave(entries[over.parts]):
                    fork = forks[over.parts]
                    if not fork.emitted:
                        break
                    over.positions += self.room.positions(entries[over.parts]) + len(fork.lead)
                    over.counted += node.option(over.parts) == 0
                    over.parts += 1
                return node.is_closed and over.parts == len(entries)
            case _:
                return node.emitted

    @property
    def is_finished(self) -> bool:
        return all(leaf.is_settled for leaf in leaves(self.root, with_over=False))


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
    """The lists of a node, but for those that are over."""
    match node:
        case Chain():
            yield node
            for entry in node.entries[node.over.parts :]:
                yield from _chains(entry)
        case Group():
            for part in node.parts[node.over.parts :]:
                yield from _chains(part)
        case Step():
            yield from _chains(node.part)
        case Fork() if node.body is not None:
            yield from _chains(node.body)
