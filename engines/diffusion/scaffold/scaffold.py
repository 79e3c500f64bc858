"""A program bound to a tokenizer: what each part costs in tokens, and how gates are read.

Costs are the least numbers of canvas positions that a part needs; with them the canvas knows at any moment whether
another item still fits, and closes lists early instead of breaking.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from carrara.engines.diffusion.scaffold.forms import (
    At,
    Form,
    Gate,
    Heights,
    Items,
    Literal,
    Program,
    Ref,
    Seq,
    Slot,
)
from carrara.engines.diffusion.scaffold.gates import GatePlan
from carrara.engines.diffusion.scaffold.lengths import NUMBERS, usual_tokens
from carrara.engines.diffusion.scaffold.lexicon import Lexicon
from carrara.engines.diffusion.scaffold.tokens import TokenAutomaton

ENDLESS = 10**9
_OPEN_KINDS = (*NUMBERS, "string")
_LONG = 256
_FIXED_FORM = 48  # a date or a UUID gets all the room that its longest spelling takes


@dataclass(slots=True, eq=False)
class Scaffold:
    """A contract on a canvas. Used by one thread at a time, as its lexicon is."""

    program: Program
    lexicon: Lexicon
    _costs: dict[Form, int] = field(init=False, default_factory=dict)
    _rules: dict[str, int] = field(init=False, default_factory=dict)
    _heights: Heights = field(init=False)
    _plans: dict[Gate, GatePlan] = field(init=False, default_factory=dict)
    _options: dict[Gate, tuple[tuple[int, ...], tuple[int, ...]]] = field(
        init=False, default_factory=dict
    )
    _automata: dict[Slot, TokenAutomaton] = field(init=False, default_factory=dict)
    _longest: dict[Slot, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._heights = Heights(self.program.heights)
        self._rules = dict.fromkeys(self.program.rules, ENDLESS)
        while True:
            self._costs = {}
            found = {name: self.cost(form) for name, form in self.program.rules.items()}
            if found == self._rules:
                break
            self._rules = found

    @property
    def least_tokens(self) -> int:
        """The shortest answer; ENDLESS if the vocabulary cannot spell any."""
        return self.cost(self.program.root)

    def cost(self, form: Form) -> int:
        """The least positions that a form takes."""
        if form not in self._costs:
            self._costs[form] = self._cost(form)
        return self._costs[form]

    def option_cost(self, gate: Gate, number: int) -> int:
        return self.plan(gate).length(number) + self.cost(gate.options[number].body)

    def options(self, gate: Gate) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of each option of a gate, the least positions and the height of its body."""
        if gate not in self._options:
            costs = tuple(self.option_cost(gate, number) for number in range(len(gate.options)))
            heights = {form: self.height(form) for form in {o.body for o in gate.options}}
            self._options[gate] = (costs, tuple(heights[o.body] for o in gate.options))
        return self._options[gate]

    def plan(self, gate: Gate) -> GatePlan:
        if gate not in self._plans:
            self._plans[gate] = GatePlan.of(gate, self.lexicon)
        return self._plans[gate]

    def automaton(self, slot: Slot) -> TokenAutomaton:
        if slot not in self._automata:
            self._automata[slot] = self.lexicon.automaton(slot.language)
        return self._automata[slot]

    def longest(self, slot: Slot) -> int:
        """Tokens of the slot's longest text (256 for longer ones) within its own bound, at least its cost."""
        if slot not in self._longest:
            longest = self.automaton(slot).most_tokens(slot.most or _LONG)
            self._longest[slot] = max(1, self.cost(slot), longest)
        return self._longest[slot]

    def grown(self, slot: Slot, tokens: int) -> int:
        """The length up to which a slot may grow, where `tokens` is that of a slot without a bound of its own."""
        return self.longest(slot) if slot.most is not None else min(tokens, self.longest(slot))

    def usual_length(self, slot: Slot, tokens: int, grows: bool = True) -> int:
        """The length that a slot begins with, where `tokens` is that of a free string. One that cannot grow
        begins with its bound, and no shorter than others."""
        longest, least = self.longest(slot), self.cost(slot)
        if slot.kind in _OPEN_KINDS:
            if slot.most is not None and not grows:
                return max(least, longest)
            tokens = usual_tokens(slot, tokens, grows)
            return max(least, min(tokens, longest))
        return max(least, longest if longest <= _FIXED_FORM else min(tokens, longest))

    def widest(self, form: Form) -> int:
        """Positions of an open choice, 0 for other forms."""
        return self.plan(form).width if isinstance(form, Gate) else 0

    def end_cost(self, items: Items, option: int, more: int) -> int:
        """Positions to end a list whose last item was begun by `option`, after `more` further items."""
        if not more:
            return self._end(items, option)
        return self._next(items, option) + (more - 1) * self._next(items, 0) + self._end(items, 0)

    def height(self, form: Form) -> int:
        """How many nested references a form needs at least."""
        return self._heights.of(form)

    def _next(self, items: Items, option: int) -> int:
        """Positions of a further item behind one that was begun by `option`."""
        return self.plan(items.gate(option)).length(0) + self.cost(items.later)

    def _end(self, items: Items, option: int) -> int:
        """Positions of the end of a list behind an item that was begun by `option`."""
        plan = self.plan(items.gate(option))
        return plan.length(len(plan.leads) - 1)

    def _cost(self, form: Form) -> int:
        match form:
            case Literal(text):
                return len(self.lexicon.spell(text))
            case Slot():
                fewest = self.automaton(form).fewest_tokens()
                return ENDLESS if fewest is None else max(fewest, 1)
            case Seq(parts):
                return min(ENDLESS, sum(map(self.cost, parts)))
            case At(_, part):
                return self.cost(part)
            case Ref(name):
                return self._rules[name]
            case Items():
                return min(ENDLESS, self.cost(form.first) + self.end_cost(form, 0, form.least - 1))
            case Gate(options):
                plan = self.plan(form)
                costs = [plan.length(n) + self.cost(o.body) for n, o in enumerate(options)]
                return min(ENDLESS, max(1, min(costs)))
