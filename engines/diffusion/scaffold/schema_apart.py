"""Whether no value fits two plain schemas: what `oneOf` asks of its branches, as far as it is plain to see."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from carrara.engines.diffusion.scaffold.schema_parts import Schema, constants, member_schema
from carrara.engines.json_values import exact

_SIZES = {
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}
_APART = {"date", "date-time", "time", "duration", "uuid", "ipv4", "ipv6", "email"}
"""Formats of which no string has two."""


class Apart:
    """Compares plain schemas, each two once. `options` gives the plain schemas of a part, None where they are not
    known; `takes` says whether a value is valid under a schema."""

    def __init__(
        self,
        options: Callable[[Any], list[Schema] | None],
        takes: Callable[[Schema, Any], bool],
    ) -> None:
        self._options = options
        self._takes = takes
        self._found: dict[tuple[int, int], bool] = {}

    def disjoint(self, a: Schema, b: Schema) -> bool:
        """Whether no value fits both; False where that is not plain to see. `b` may name no type."""
        key = (id(a), id(b))
        if key not in self._found:
            self._found[key] = False  # while it is being looked at: schemas may contain themselves
            self._found[key] = self._look(a, b)
        return self._found[key]

    def _look(self, a: Schema, b: Schema) -> bool:
        for one, other in ((a, b), (b, a)):
            values = constants(one)
            if values is not None:
                return not any(self._takes(other, value) for value in values)
        kind, its = a["type"], b.get("type", a["type"])
        if kind != its and {kind, its} != {"integer", "number"}:
            return True
        if kind in ("integer", "number"):
            return _above(a, b) or _above(b, a)
        shortest, longest = _SIZES[kind]
        if any(longest in x and x[longest] < y.get(shortest, 0) for x, y in ((a, b), (b, a))):
            return True
        if kind == "string":
            formats = {a.get("format"), b.get("format")}
            return len(formats) == 2 and formats <= _APART
        if kind == "object":
            names = [*a.get("required", ()), *b.get("required", ())]
            return any(self._at(name, a, b) for name in dict.fromkeys(names))
        return False

    def _at(self, key: str, a: Schema, b: Schema) -> bool:
        """Whether property `key`, required in one of two objects, keeps them apart."""
        left, right = member_schema(a, key), member_schema(b, key)
        if left is False or right is False:
            return True
        if key not in a.get("required", ()) or key not in b.get("required", ()):
            return False
        ours, theirs = self._options(left), self._options(right)
        if ours is None or theirs is None:
            return False
        return all(self.disjoint(x, y) for x in ours for y in theirs)


def _above(a: Schema, b: Schema) -> bool:
    """Whether all numbers of `a` are greater than those of `b`."""
    least = [(Fraction(exact(a[w])), w) for w in ("minimum", "exclusiveMinimum") if w in a]
    most = [(Fraction(exact(b[w])), w) for w in ("maximum", "exclusiveMaximum") if w in b]
    return any(
        low > high or (low == high and (w.startswith("ex") or v.startswith("ex")))
        for low, w in least
        for high, v in most
    )


__all__ = ["Apart"]
