"""Steps and fields that a policy's thresholds name and a workflow does not have: a typo there would pass silently, for
such thresholds hold for nothing. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from carrara.engines.contract import Choice, Contract, Json, Regex, Table, Text
from carrara.engines.json_schema import pointer
from carrara.engines.nearest import nearest
from carrara.runtime.routing.accept import Accept
from carrara.runtime.routing.policy import Policy

_DEEPEST = 6  # levels of a schema that are looked at: it may refer to itself
_ANY = "*"
_ITEM = "[]"
_REST = "**"
_MOST_LISTED = 12

Place = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a workflow asks models for: the contract of each such step by its path below the workflow's name, None where
    it is not known; `others` are the names of the steps that ask none. `whole` False: there may be more of both."""

    steps: Mapping[str, Contract | None]
    others: frozenset[str] = frozenset()
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Misnamed:
    """One name that nothing bears, at the keys that lead to it from the policy on."""

    place: Place
    message: str


@dataclass(frozen=True, slots=True)
class _Fields:
    """The places in an answer of which a confidence may be told, as parts of JSON pointers. `_ITEM` stands for any
    number in a list, `_ANY` for any key, `_REST` for anything below."""

    places: frozenset[Place] = field(default_factory=frozenset)

    def has(self, wanted: Place) -> bool:
        return any(_fits(wanted, place) for place in self.places)

    @property
    def pointers(self) -> list[str]:
        return sorted({pointer(map(_shown, one)) for one in self.places if _REST not in one})


def misnamed(policy: Policy, asked: Asked) -> list[Misnamed]:
    """The steps and fields in `policy` that are not in `asked`, each with the nearest right name."""
    found: list[Misnamed] = []
    for key, accept in policy.steps.items():
        contracts = [c for path, c in asked.steps.items() if _is_called(key, path)]
        if contracts:
            found += _misnamed_fields(
                ("steps", key), accept, contracts, f"step {key!r} does not have"
            )
        elif asked.whole:
            found.append(Misnamed(("steps", key), _no_step(key, asked)))
    for kind, accept in policy.accept.items():
        contracts = [c for c in asked.steps.values() if c is None or c.kind == kind]
        if contracts and asked.whole:
            found += _misnamed_fields(
                ("accept", kind), accept, contracts, f"no {kind} answer here has"
            )
    return found


def _no_step(key: str, asked: Asked) -> str:
    name = key.rpartition("/")[2]
    if name in asked.others:
        return f"the policy's step {key!r} asks no model: thresholds are of no use there"
    known = {path.rpartition("/")[2] for path in asked.steps}
    return f"the policy names a step {key!r} that is not there{_hint(name, known)}"


def _misnamed_fields(
    place: Place, accept: Accept, contracts: Collection[Contract | None], lacks: str
) -> Iterator[Misnamed]:
    fields = [_fields_of(contract) for contract in contracts]
    known = [one for one in fields if one is not None]
    if len(known) < len(fields):
        return
    names = {name for one in known for name in one.pointers}
    for key in accept.fields:
        if not any(one.has(_parts(key)) for one in known):
            text = f"the policy names a field {key!r} that {lacks}{_hint(key, names)}"
            yield Misnamed((*place, "fields", key), text)
    for engine, inner in accept.engines.items():
        yield from _misnamed_fields((*place, "engines", engine), inner, contracts, lacks)


def _is_called(key: str, path: str) -> bool:
    """Whether a key of `steps` means the step at a path: by its name, or by a path that ends like it."""
    return key == path.rpartition("/")[2] or ("/" in key and f"/{key}".endswith(f"/{path}"))


def _hint(name: str, known: Collection[str]) -> str:
    near = nearest(name, (one for one in known if one))
    if near is not None:
        return f". Did you mean {near!r}?"
    listed = sorted(one for one in known if one)
    return f". Known: {', '.join(listed)}" if 0 < len(listed) <= _MOST_LISTED else ""


def _fields_of(contract: Contract | None) -> _Fields | None:
    """The places in answers of a contract, None where they are not known before an answer came."""
    match contract:
        case Json():
            schema = contract.schema
            return _Fields(frozenset(_places(schema, schema, (), 0)) | {()})
        case Table(columns):
            return _Fields(frozenset((_ITEM, column.name) for column in columns))
        case Choice() | Regex() | Text():
            return _Fields(frozenset({()}))
        case _:
            return None


def _places(schema: Any, root: Mapping[str, Any], path: Place, depth: int) -> Iterator[Place]:
    """The places that a schema allows at and below `path`."""
    if depth > _DEEPEST or not isinstance(schema, Mapping):
        yield (*path, _REST)
        return
    yield path
    if isinstance(reference := schema.get("$ref"), str):
        yield from _places(_at(root, reference), root, path, depth + 1)
    for key in ("anyOf", "oneOf", "allOf"):
        for branch in schema.get(key) or ():
            yield from _places(branch, root, path, depth + 1)
    properties = schema.get("properties") or {}
    for name, inner in properties.items():
        yield from _places(inner, root, (*path, name), depth + 1)
    more = schema.get("additionalProperties")
    if isinstance(more, Mapping):
        yield from _places(more, root, (*path, _ANY), depth + 1)
    elif more is True or (more is None and schema.get("type") == "object" and not properties):
        yield (*path, _REST)
    for number, inner in enumerate(schema.get("prefixItems") or ()):
        yield from _places(inner, root, (*path, str(number)), depth + 1)
    if schema.get("type") == "array" or "items" in schema:
        yield from _places(schema.get("items"), root, (*path, _ITEM), depth + 1)


def _at(root: Mapping[str, Any], reference: str) -> Any:
    """What a reference inside a schema points to, None for one that leads out of it."""
    found: Any = root
    for part in _parts(reference.removeprefix("#")):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if reference.startswith("#") else None


def _parts(text: str) -> Place:
    """The parts of a JSON pointer (RFC 6901)."""
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:])


def _fits(wanted: Place, place: Place) -> bool:
    if place and place[-1] == _REST:
        place, wanted = place[:-1], wanted[: len(place) - 1]
    return len(wanted) == len(place) and all(map(_is_part, wanted, place))


def _is_part(want: str, part: str) -> bool:
    return _ANY in (want, part) or want == part or (part == _ITEM and want.isdecimal())


def _shown(part: str) -> str:
    return _ANY if part == _ITEM else part


__all__ = ["Asked", "Misnamed", "misnamed"]
