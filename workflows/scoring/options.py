"""Gold that no answer can equal, as its place in the answer takes only other values: enums and constants of a JSON
Schema, at any depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from carrara.engines.nearest import nearest
from carrara.workflows.scoring.pairs import squeeze

_MOST_LISTED = 12
_DEEPEST = 32  # references and unions that are followed at one place

Options = list[Any] | None
"""All values that a place can take, null left out; None where it takes any of a type."""


class Stray(NamedTuple):
    """A value at a JSON pointer, "" for the whole, that is none of the options there. `is_key`: it is the name of a
    member."""

    pointer: str
    value: Any
    options: list[Any]
    is_key: bool = False

    @property
    def told(self) -> str:
        where = f" at {self.pointer}" if self.pointer else ""
        if self.is_key:
            return no_option(f"a key of gold{where}", self.value, self.options, "a key there")
        return no_option(
            f"gold{where}", self.value, self.options, "the answer there" if where else "the answer"
        )


def no_option(what: str, value: Any, options: list[Any], whose: str = "the answer") -> str:
    """What to tell of gold that is none of the options."""
    names = [str(option) for option in options]
    listed = ", ".join(names[:_MOST_LISTED]) + (", …" if len(names) > _MOST_LISTED else "")
    meant = nearest(str(value), names)
    hint = f". Did you mean {meant!r}?" if meant is not None else ""
    return (
        f"{what} is {value!r:.60}, and {whose} is one of {listed}: give gold as one of these{hint}"
    )


def strays(schema: Mapping[str, Any], gold: Any) -> Iterator[Stray]:
    """The values of `gold`, JSON data, that an answer under `schema` cannot have. Upper and lower case and white space
    are alike, as where answers are scored by field; so are a missing value, null and an empty text, which are none."""
    yield from _Walk(schema).at(gold, [schema], "")


class _Walk:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root

    def at(self, gold: Any, schemas: list[Any], pointer: str) -> Iterator[Stray]:
        """`schemas` are those that the value here may follow."""
        if isinstance(gold, Mapping):
            for key, part in gold.items():
                names, inner = self._member(schemas, key)
                below = f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"
                if _is_stray(key, names):
                    yield Stray(pointer, key, names or [], is_key=True)
                yield from self.at(part, inner, below)
        elif isinstance(gold, list):
            for place, part in enumerate(gold):
                yield from self.at(part, self._item(schemas, place), f"{pointer}/{place}")
        else:
            options = _either([self._options(one, _DEEPEST) for one in schemas])
            if _is_stray(gold, options):
                yield Stray(pointer, gold, options or [])

    def _member(self, schemas: list[Any], key: str) -> tuple[Options, list[Any]]:
        """The names that a member can have, and the schemas that the one called `key` may follow."""
        names: list[Options] = []
        inner: list[Any] = []
        for schema in self._spread(schemas):
            properties, others = schema.get("properties", {}), schema.get("additionalProperties")
            if key in properties:
                names.append(None)
                inner.append(properties[key])
            elif schema.get("patternProperties"):
                names.append(None)
                inner.append(True)
            elif isinstance(others, Mapping):
                names.append(self._options(schema.get("propertyNames", True), _DEEPEST))
                inner.append(others)
        return _either(names), inner

    def _item(self, schemas: list[Any], place: int) -> list[Any]:
        found = []
        for schema in self._spread(schemas):
            first = schema.get("prefixItems", [])
            if place < len(first):
                found.append(first[place])
            elif "items" in schema:
                found.append(schema["items"])
        return found

    def _spread(self, schemas: list[Any]) -> Iterator[Mapping[str, Any]]:
        """References and unions spread out."""
        left = [(schema, _DEEPEST) for schema in schemas]
        while left:
            schema, depth = left.pop()
            if not isinstance(schema, Mapping) or not depth:
                continue
            yield schema
            if "$ref" in schema:
                left.append((self._target(schema["$ref"]), depth - 1))
            for word in ("anyOf", "oneOf", "allOf"):
                left += [(one, depth - 1) for one in schema.get(word, ())]

    def _options(self, schema: Any, depth: int) -> Options:
        if not isinstance(schema, Mapping) or not depth:
            return None
        together: list[Options] = []
        if "const" in schema:
            together.append([schema["const"]])
        if "enum" in schema:
            together.append(list(schema["enum"]))
        if schema.get("type") == "null":
            together.append([])
        if "$ref" in schema:
            together.append(self._options(self._target(schema["$ref"]), depth - 1))
        together += [
            _either([self._options(one, depth - 1) for one in schema[word]])
            for word in ("anyOf", "oneOf")
            if word in schema
        ]
        together += [self._options(one, depth - 1) for one in schema.get("allOf", ())]
        closed = [options for options in together if options is not None]
        return min(closed, key=len, default=None)

    def _target(self, reference: str) -> Any:
        found: Any = self._root
        for part in reference.removeprefix("#").split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, Mapping) else None
        return found


def _either(found: list[Options]) -> Options:
    """What one of several schemas takes; None where there is none, or one takes anything."""
    if not found:
        return None
    every: list[Any] = []
    for options in found:
        if options is None:
            return None
        every += [one for one in options if one is not None and one not in every]
    return every


def _is_stray(value: Any, options: Options) -> bool:
    if not options or value is None or not squeeze(value):
        return False
    return squeeze(value) not in {squeeze(option) for option in options}


__all__ = ["Stray", "no_option", "strays"]
