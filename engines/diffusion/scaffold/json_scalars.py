"""Scalars of a JSON Schema: choices of listed values, and slots for strings and numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from carrara.engines.diffusion.scaffold import numbers
from carrara.engines.diffusion.scaffold.dfa import automaton, beginning_with
from carrara.engines.diffusion.scaffold.forms import (
    MISSING,
    NOTHING,
    Form,
    Gate,
    Literal,
    Option,
    Slot,
    join,
)
from carrara.engines.diffusion.scaffold.json_build import (
    Build,
    Takes,
    dumps,
    equal_to,
    taken_by_any,
)
from carrara.engines.diffusion.scaffold.language import Alt, Embedded, Language, Node, literal, seq
from carrara.engines.diffusion.scaffold.refused import CannotHold, NothingFits, below, together
from carrara.engines.diffusion.scaffold.schema import Branch
from carrara.engines.diffusion.scaffold.schema_parts import Schema, constants
from carrara.engines.diffusion.scaffold.strings import StringSpace, string_space
from carrara.engines.errors import CarraraError
from carrara.engines.json_values import distinct, exact


@dataclass(frozen=True, slots=True)
class _Scalar:
    """The language of one scalar branch. `space` is set for a string, `has_words` where strings are listed."""

    kind: str
    node: Node
    space: StringSpace | None
    has_words: bool = False

    @property
    def least(self) -> int:
        return self.space.least if self.space else 0

    def exempt(self, least: int) -> _Scalar:
        """The same beside a string of at least `least` characters, which says nothing about this."""
        node = Embedded(beginning_with(automaton(self.node), least))
        return _Scalar(self.kind, node, None, self.has_words)


def choice(values: list[Any], prefix: str) -> Form:
    if len(values) == 1:
        return Literal(prefix + dumps(values[0]))
    return Gate(
        tuple(Option(prefix + dumps(value), NOTHING, equal_to(value)) for value in values), "choice"
    )


def listed(branches: list[Branch]) -> list[Any] | None:
    """All values of the branches if they are listed, None if some branch is open."""
    found: list[Any] = []
    for branch in branches:
        values = constants(branch.schema)
        if values is None:
            return None
        found += values
    return distinct(found)


def scalar_slot(build: Build, branches: list[Branch], prefix: str) -> Form:
    """One slot for all scalar branches: which of them it is shows in its first token.

    The lengths of one string only can be counted, and no other string beside it: further ones give way.
    """
    found = _parts(branches)
    strings = [part for part in found if part.space is not None]
    counted = [part for part in strings if part.space and part.space.is_counted]
    if counted:
        found = [p for p in found if p is counted[0] or not (p.space or p.has_words)]
        strings = counted[:1]
        found = [p if p.space else p.exempt(counted[0].least) for p in found]
    takes = taken_by_any(build.schemas, [branch.schema for branch in branches])
    space = strings[0].space if strings else None
    if len(found) == 1 and space is not None:
        return join(Literal(f'{prefix}"'), _string_slot(space, takes))
    least, most = (space.least, space.most) if counted and space else (0, None)
    language = Language(seq(prefix, Alt(tuple(part.node for part in found))), least, most)
    kinds = " or ".join(dict.fromkeys(part.kind for part in found))
    return Slot(language, kinds, _writer(prefix, takes))


def _parts(branches: list[Branch]) -> list[_Scalar]:
    found: list[_Scalar] = []
    errors: list[CannotHold] = []
    for branch in branches:
        try:
            with below(*branch.place):
                found.append(_scalar(branch.schema))
        except CannotHold as error:
            errors.append(error)
    if not found:
        raise together(errors)
    return found


def _scalar(schema: Schema) -> _Scalar:
    """Kind and language of a scalar, a string with its quotes."""
    values = constants(schema)
    if values is not None:
        words = any(isinstance(value, str) for value in values)
        return _Scalar("null" if values == [None] else "choice", _words(values), None, words)
    kind = schema["type"]
    try:
        if kind == "string":
            space = string_space(schema)
            return _Scalar(space.kind, seq('"', space.inside, '"'), space)
        return _Scalar(kind, _number(schema, kind == "integer"), None)
    except NothingFits as error:
        raise NothingFits(f"{_words_of(schema)}: {error}") from error
    except CarraraError as error:
        raise CannotHold(f"{_words_of(schema)}: {error}") from error
    except RecursionError as error:
        raise CannotHold(f"{_words_of(schema)}: too many digits") from error


def _words_of(schema: Schema) -> str:
    """The keywords that say something about a scalar."""
    return ", ".join(word for word in schema if word != "type") or str(schema["type"])


def _string_slot(space: StringSpace, takes: Takes) -> Slot:
    """A string whose opening quote is pinned; the closing one ends the slot."""

    def write(value: Any) -> str | None:
        return dumps(value)[1:] if isinstance(value, str) and takes(value) else None

    return Slot(Language(seq(space.inside, '"'), space.least, space.most), space.kind, write)


def _writer(prefix: str, takes: Takes) -> Callable[[Any], str | None]:
    def write(value: Any) -> str | None:
        return prefix + dumps(value) if value is not MISSING and takes(value) else None

    return write


def _number(schema: Schema, whole: bool) -> Node:
    least = [(exact(schema[k]), k) for k in ("minimum", "exclusiveMinimum") if k in schema]
    most = [(exact(schema[k]), k) for k in ("maximum", "exclusiveMaximum") if k in schema]
    low = max(least, key=lambda b: (b[0], b[1] == "exclusiveMinimum"), default=(None, ""))
    high = min(most, key=lambda b: (b[0], b[1] == "maximum"), default=(None, ""))
    bounds = numbers.Bounds(
        low[0], high[0], low[1] == "exclusiveMinimum", high[1] == "exclusiveMaximum"
    )
    step = Fraction(exact(schema.get("multipleOf", 1)))
    if whole:
        node = numbers.integers(bounds, step.numerator)
    elif "multipleOf" not in schema:
        node = numbers.decimals(bounds)
    elif step.denominator == 1:
        node = numbers.integers(bounds, step.numerator)
    else:
        node = numbers.steps(bounds, exact(schema["multipleOf"]))
    if automaton(node).is_empty:
        raise NothingFits(f"no number is within {low[1]} {low[0]} and {high[1]} {high[0]}")
    return node


def _words(values: list[Any]) -> Node:
    return Alt(tuple(literal(dumps(value)) for value in values))
