"""Fields across rows: the same place in every answer, whatever the position in a list or the key of a mapping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from carrara.workflows.scoring.pairs import Path

_SPREAD = ("anyOf", "oneOf", "allOf")


class Places:
    """Names places by a JSON Schema: `/days[]/matches[]/home`, and `/slots/*` below a mapping with free keys.

    Without a schema every key names a place of its own.
    """

    def __init__(self, schema: Mapping[str, Any] | None = None) -> None:
        self._root: Any = schema
        self._known: dict[Path, str] = {}

    def of(self, path: Path) -> str:
        """The place of a path, "" for the whole."""
        bare = tuple(part if isinstance(part, str) else None for part in path)
        if bare not in self._known:
            self._known[bare] = self._named(bare)
        return self._known[bare]

    def _named(self, path: Path) -> str:
        found, at = "", self._root
        for part in path:
            if not isinstance(part, str):
                found, at = found + "[]", self._item(at)
            else:
                name, at = self._member(at, part)
                found += f"/{name}"
        return found

    def _member(self, schema: Any, key: str) -> tuple[str, Any]:
        options = list(self._plain(schema))
        for option in options:
            if key in option.get("properties", {}):
                return key, option["properties"][key]
        for option in options:
            extra = option.get("additionalProperties")
            if isinstance(extra, Mapping):
                return "*", extra
            if option.get("patternProperties"):
                return "*", next(iter(option["patternProperties"].values()))
        return key, None

    def _item(self, schema: Any) -> Any:
        return next((o["items"] for o in self._plain(schema) if "items" in o), None)

    def _plain(self, schema: Any, depth: int = 16) -> Iterator[Mapping[str, Any]]:
        """The schemas that a value may follow here, references and unions spread out."""
        if not isinstance(schema, Mapping) or not depth:
            return
        yield schema
        if "$ref" in schema:
            yield from self._plain(self._target(schema["$ref"]), depth - 1)
        for word in _SPREAD:
            for option in schema.get(word, ()):
                yield from self._plain(option, depth - 1)

    def _target(self, ref: str) -> Any:
        found = self._root
        for part in ref.split("/")[1:]:
            step = part.replace("~1", "/").replace("~0", "~")
            found = found.get(step) if isinstance(found, Mapping) else None
        return found
