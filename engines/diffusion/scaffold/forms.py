"""The form of an answer: what is pinned, what is decided, in the order of the text. Knows no tokens.

A contract compiles to a `Program`. Its leaves are literals and slots; gates decide between ways to go on, and are
read from one denoising step. Each part also knows how a given value is written in it (for training canvases and
for drafts).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from typing import Literal as Word

from carrara.engines.diffusion.scaffold.language import Language

GateKind = Word["choice", "null", "list", "property", "union", "end"]


class _Missing:
    """The value of a part that a draft does not give."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()


@dataclass(frozen=True, slots=True, eq=False)
class Literal:
    """Pinned text, never decoded."""

    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """Text to be decoded: a language, and how a value is spelled in it (None: the value does not fit).

    `kind` names what it holds, for people and for length budgets: "string", "integer", "date" …
    `most` bounds its tokens (None: the canvas does). `share` is how long its text usually is, in parts of a
    usual string.
    """

    language: Language
    kind: str
    write: Callable[[Any], str | None]
    most: int | None = None
    share: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Option:
    """One way to go on: the pinned `lead`, then `body`. `takes` says whether a value goes this way.

    A lead "" means that nothing more comes. `signs` are the texts by which the option is recognised in the
    model's prediction; without any, the lead.
    """

    lead: str
    body: Form
    takes: Callable[[Any], bool]
    signs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """A decision between options. While it is open, the canvas shows the option `expect` behind it,
    so that its slots are refined along (None: nothing is shown)."""

    options: tuple[Option, ...]
    kind: GateKind
    expect: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """One or more items with a gate after each. The last option of a gate ends the list, the others begin
    a further item with their leads.

    `gate` takes the number of the option that began the item before it (0 for the first item). `least` and
    `most` count the first item and those begun with option 0. `first` and `later` are the item's form at the
    start and after a gate. `split` gives, for a value, the items as (option, item value) pairs, the first
    one with option 0; None if it does not fit.
    With `distinct`, an item equal to an earlier one is left out of the answer. With `keyed`, items are
    members of a JSON object: the key is their step in field pointers, and a repeated key is left out.
    With `nested`, the option that began an item is its depth, and its path is that of a tree of `items`.
    """

    first: Form
    later: Form
    least: int
    most: int | None
    gate: Callable[[int], Gate]
    split: Callable[[Any], list[tuple[int, Any]] | None]
    distinct: bool = False
    keyed: bool = False
    nested: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Seq:
    parts: tuple[Form, ...]


@dataclass(frozen=True, slots=True, eq=False)
class At:
    """The part of a value below `step` (a key or an index), which is also its step in field pointers.

    With `silent` the step picks the value and does not show in pointers.
    """

    step: str | int
    part: Form
    silent: bool = False

    def pick(self, value: Any) -> Any:
        try:
            return value[self.step]
        except (TypeError, KeyError, IndexError):
            return MISSING


@dataclass(frozen=True, slots=True, eq=False)
class Ref:
    """A named form that contains itself."""

    name: str


Form = Literal | Slot | Gate | Items | Seq | At | Ref

NOTHING = Seq(())


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A compiled contract. `heights`: how many nested references each named form needs to come to an end."""

    root: Form
    rules: Mapping[str, Form] = field(default_factory=dict)
    heights: Mapping[str, int] = field(default_factory=dict)


def join(*parts: Form | str) -> Form:
    """Parts in order, flat, neighbouring literals joined. Literals at the ends of an `At` come out of it."""
    flat: list[Form] = []
    stack: list[Form | str] = list(reversed(parts))
    while stack:
        part = stack.pop()
        match part:
            case Seq(inner):
                stack.extend(reversed(inner))
            case At(step, inner, silent) if (ends := _literal_ends(inner)) is not None:
                before, middle, after = ends
                stack += [after, At(step, middle, silent), before]
            case At(_, inner) if inner is NOTHING:
                continue
            case str() | Literal():
                text = part if isinstance(part, str) else part.text
                if flat and isinstance(flat[-1], Literal):
                    flat[-1] = Literal(flat[-1].text + text)
                elif text:
                    flat.append(Literal(text))
            case _:
                flat.append(part)
    if not flat:
        return NOTHING
    return flat[0] if len(flat) == 1 else Seq(tuple(flat))


def split_lead(form: Form) -> tuple[str, Form]:
    """The literal that a form begins with ("" if none) and the rest of it."""
    match form:
        case Literal(text):
            return text, NOTHING
        case Seq((Literal(text), *rest)):
            return text, join(*rest)
    return "", form


def _literal_ends(form: Form) -> tuple[str, Form, str] | None:
    """A form without the literals at its ends, and those; None if it has none."""
    parts = form.parts if isinstance(form, Seq) else (form,)
    before = parts[0].text if parts and isinstance(parts[0], Literal) else ""
    parts = parts[1:] if before else parts
    after = parts[-1].text if parts and isinstance(parts[-1], Literal) else ""
    parts = parts[:-1] if after else parts
    return (before, join(*parts), after) if before or after else None


NEVER_ENDS = 10**6


@dataclass(frozen=True, slots=True, eq=False)
class Heights:
    """How many nested references forms need at least, given those of the named forms (`of_rules`).

    A form is looked at once: parts are shared, so that there are far more ways through a form than parts in it.
    """

    of_rules: Mapping[str, int]
    _known: dict[Form, int] = field(init=False, default_factory=dict)

    def of(self, form: Form) -> int:
        if form not in self._known:
            self._known[form] = self._found(form)
        return self._known[form]

    def _found(self, form: Form) -> int:
        match form:
            case Ref(name):
                return min(NEVER_ENDS, 1 + self.of_rules[name])
            case Seq(parts):
                return max(map(self.of, parts), default=0)
            case At(_, part):
                return self.of(part)
            case Gate(options):
                return min(self.of(option.body) for option in options)
            case Items():
                return max(self.of(form.first), self.of(form.later) if form.least > 1 else 0)
        return 0


def rule_heights(rules: Mapping[str, Form]) -> dict[str, int]:
    """The least heights of named forms (NEVER_ENDS for one that cannot end), by iteration."""
    found = dict.fromkeys(rules, NEVER_ENDS)
    while True:
        heights = Heights(found)
        again = {name: heights.of(form) for name, form in rules.items()}
        if again == found:
            return found
        found = again
