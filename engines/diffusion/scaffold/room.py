"""Room on the canvas: how many positions each part of an answer takes now, or needs at least.

The invariant that keeps every answer completable: the positions that are laid out and the least that everything else
needs never exceed the budget. Whatever needs more than its least (a longer slot, a further item, a larger option) is
paid from the slack, or is not offered.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from carrara.engines.diffusion.scaffold.forms import At, Form, Gate, Items, Literal, Ref, Seq, Slot
from carrara.engines.diffusion.scaffold.nodes import (
    Chain,
    Fork,
    Group,
    Hole,
    Node,
    OpenEnd,
    Pinned,
    Step,
)
from carrara.engines.diffusion.scaffold.scaffold import ENDLESS, Scaffold


@dataclass(frozen=True, slots=True)
class Budget:
    """How room is given out.

    `tokens` canvas positions for the whole answer, `window` of them refined at a time. A slot begins with
    about `slot_tokens` (`lengths`) and, if it `grows`, gets up to `slot_most`. `ahead` items of an open list are
    shown before it is known that they exist, more as it gets longer. References nest at most `depth` deep.
    """

    tokens: int = 512
    window: int = 128
    slot_tokens: int = 24
    slot_most: int = 96
    ahead: int = 2
    depth: int = 24
    grows: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Room:
    """The accounts of one answer."""

    scaffold: Scaffold
    budget: Budget
    _most: dict[Form, int] = field(init=False, default_factory=dict)

    def slack(self, root: Node) -> int:
        """Positions that nothing needs yet."""
        return self.budget.tokens - self.positions(root)

    def most(self, form: Form) -> int:
        """The most canvas positions that a form can come to take, ENDLESS where only the budget bounds it."""
        if form not in self._most:
            self._most[form] = self._most_of(form)
        return self._most[form]

    def _most_of(self, form: Form) -> int:
        match form:
            case Literal():
                return self.scaffold.cost(form)
            case Slot():
                usual = self.scaffold.usual_length(form, self.budget.slot_tokens, self.budget.grows)
                return max(usual, self.scaffold.grown(form, self.budget.slot_most))
            case Seq(parts):
                return min(ENDLESS, sum(map(self.most, parts)))
            case At(_, part):
                return self.most(part)
            case Ref():
                return ENDLESS
            case Items():
                return self._most_of_items(form)
            case Gate(options):
                plan = self.scaffold.plan(form)
                bodies = {body: self.most(body) for body in {option.body for option in options}}
                return max(
                    max(plan.width, len(lead)) + bodies[option.body]
                    for lead, option in zip(plan.leads, options, strict=True)
                )

    def _most_of_items(self, items: Items) -> int:
        """Of a list whose entries are all alike and counted."""
        if items.most is None or items.nested:
            return ENDLESS
        plan = self.scaffold.plan(items.gate(0))
        gate = max(plan.width, *(len(lead) for lead in plan.leads))
        more = max(0, items.most - 1) * (gate + self.most(items.later))
        return min(ENDLESS, self.most(items.first) + more + gate)

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
                return node.over.positions + sum(map(self.positions, node.parts[node.over.parts :]))
            case Fork():
                return self.fork_positions(node)
            case Chain():
                return self._chain_positions(node)

    def fork_positions(self, fork: Fork) -> int:
        body = 0 if fork.body is None else self.positions(fork.body)
        if fork.chosen is not None:
            return (len(fork.lead) if fork.emitted else fork.length) + body
        least = self.scaffold.cost(fork.plan.gate)
        if fork.body is not None and fork.expected is not None:
            return max(least, fork.plan.length(fork.expected) + body)
        return max(least, fork.width) if fork.allowed else least

    def _chain_positions(self, chain: Chain) -> int:
        over, total = chain.over.parts, chain.over.positions
        total += sum(map(self.positions, chain.entries[over:]))
        for number, fork in enumerate(chain.forks[over:], over):
            if fork.chosen is not None:
                total += len(fork.lead) if fork.emitted else fork.length
            elif number + 1 < len(chain.entries):
                total += fork.plan.length(fork.expected or 0)
        if len(chain.entries) > len(chain.forks) or chain.forks[-1].chosen is None:
            total += self.end_cost(chain, len(chain.entries) - 1)
        return total

    def end_cost(self, chain: Chain, last: int) -> int:
        more = max(0, chain.items.least - chain.counted(last))
        return self.scaffold.end_cost(chain.items, chain.option(last), more)

    def entry_cost(self, chain: Chain, number: int, option: int) -> int:
        """What one more entry takes from the slack."""
        items, plan = chain.items, self.scaffold.plan(chain.items.gate(chain.option(number)))
        lead = plan.length(option)
        more = max(0, items.least - chain.counted(number) - (option == 0))
        end = self.scaffold.end_cost(items, option, more)
        return lead + self.scaffold.cost(items.later) + end - self.end_cost(chain, number)
