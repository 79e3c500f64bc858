"""Mixed answers: only the doubtful fields of a JSON answer are asked of the next engine, the rest stays. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from carrara.engines.contract import Contract, Json
from carrara.engines.json_schema import pointer

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """`output` is the contract of just some fields of an answer; `paths` lead to them in `draft`, its value."""

    output: Json
    paths: tuple[Path, ...]
    draft: Mapping[str, Any]

    @property
    def told(self) -> str:
        return ", ".join(self.pointers)

    @property
    def pointers(self) -> tuple[str, ...]:
        """The JSON pointers of the fields."""
        return tuple(map(pointer, self.paths))

    def merged(self, found: Any) -> Any:
        """The draft with the fields of `found`, a value of `output`, in it. Changes neither."""
        value: Any = deepcopy(self.draft)
        for path in self.paths:
            here, there = value, found
            for key in path[:-1]:
                here, there = here[key], there[key]
            if path[-1] in there:
                here[path[-1]] = there[path[-1]]
            else:
                here.pop(path[-1], None)
        return value


def part_of(output: Contract, fields: Sequence[str], draft: Any) -> Part | None:
    """The contract of the fields at these JSON pointers of a draft, None if it has no such part.

    A list is asked for as a whole: an item alone says nothing of its place. So is what has no cut of its own within
    the answer: an optional object, a union, a mapping. None too where the whole schema has none, or nothing would stay.
    """
    if not isinstance(output, Json) or not isinstance(draft, Mapping):
        return None
    schema = output.schema
    paths: list[Path] = []
    for place in fields:
        path = _object_path(place, draft)
        if path is None or (path := _reached(schema, path)) is None:
            return None
        paths.append(path)
    shortest = _outermost(paths)
    cut = _cut(schema, schema, shortest)
    if cut is None or _is_all(draft, shortest):
        return None
    defs: dict[str, Any] = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    return Part(Json.of({**cut, **defs}, output.name), tuple(shortest), draft)


def _object_path(place: str, draft: Any) -> Path | None:
    """The keys of a pointer up to the first list."""
    path: list[str] = []
    for part in place.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(draft, Mapping) or key not in draft:
            break
        path.append(key)
        draft = draft[key]
    return tuple(path) or None


def _reached(schema: Mapping[str, Any], path: Path) -> Path | None:
    """The path as far as it leads through plain objects; None where not even its first key is of one."""
    inner = schema
    for depth, key in enumerate(path):
        properties = _properties(_resolved(schema, inner))
        if properties is None or key not in properties:
            return path[:depth] or None
        inner = properties[key]
    return path


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Those of a plain object, None of what is no such."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or any(
        key in schema for key in ("anyOf", "oneOf", "allOf")
    ):
        return None
    return properties


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """Without those that lie inside another, each once."""
    kept: list[Path] = []
    for path in sorted(dict.fromkeys(paths), key=len):
        if not any(path[: len(outer)] == outer for outer in kept):
            kept.append(path)
    return kept


def _is_all(draft: Mapping[str, Any], paths: Sequence[Path]) -> bool:
    return {path[0] for path in paths if len(path) == 1} >= set(draft)


def _cut(
    root: Mapping[str, Any], schema: Mapping[str, Any], paths: Sequence[Path]
) -> dict[str, Any] | None:
    """The object schema with only what the paths lead to."""
    schema = _resolved(root, schema)
    properties = _properties(schema)
    if properties is None:
        return None
    kept: dict[str, Any] = {}
    for key in properties:
        below = [path[1:] for path in paths if path[0] == key]
        if not below:
            continue
        part = properties[key] if () in below else _cut(root, properties[key], below)
        if part is None:
            return None
        kept[key] = part
    if len(kept) < len({path[0] for path in paths}):
        return None
    required = list(kept)
    more = {key: schema[key] for key in ("description",) if key in schema}
    return {
        "type": "object",
        **more,
        "properties": kept,
        "required": required,
        "additionalProperties": False,
    }


def _resolved(root: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return schema
    found: Any = root
    for key in reference[2:].split("/"):
        found = found.get(key, {}) if isinstance(found, Mapping) else {}
    return found if isinstance(found, Mapping) else {}


def text_of(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


__all__ = ["Part", "part_of", "text_of"]
