"""Keys that stand more than once in an object: the first is kept, as where a model writes in a circle."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from carrara.runtime.repair.edits import composed, replay
from carrara.runtime.repair.json_text.mend import JsonRepair
from carrara.runtime.repair.report import Certainty, Edit

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|[{}\[\],]|[^\s"{}\[\],:]++')


@dataclass(slots=True)
class _Object:
    """An open bracket. `first` holds the values of its keys as text; `end` is where the last member ended, -1 before
    the first; `key` the key whose value is next, `since` where that value begins, both empty outside a member."""

    kind: str
    first: dict[str, str] = field(default_factory=dict)
    end: int = -1
    key: str | None = None
    since: int = -1


def without_repeats(text: str, found: JsonRepair, named: Collection[str]) -> JsonRepair:
    """`found`, a repair of `text`, without members whose key stands before in the same object.

    Equal values are "certain" to be meant once. Of other values the first is "likely" meant where the key is none of
    `named`, those that the schema names; else both stay, and the contract refuses them.
    """
    edits = _repeats(found.text, named)
    if not edits:
        return found
    mended = replay(found.text, edits)
    return JsonRepair(composed(text, found.edits, edits), mended, json.loads(mended))


def _repeats(text: str, named: Collection[str]) -> list[Edit]:
    """Edits of sound JSON, in order; none stands inside another."""
    edits: list[Edit] = []
    stack: list[_Object] = []
    for token in _TOKEN.finditer(text):
        mark, top = token.group(), stack[-1] if stack else None
        if top is not None and top.kind == "{" and mark not in ("}", ","):
            if top.key is None:
                top.key = json.loads(mark)
                continue
            top.since = token.start() if top.since < 0 else top.since
        if mark in ("{", "["):
            stack.append(_Object(mark))
            continue
        if mark in ("}", "]"):
            stack.pop()
            top = stack[-1] if stack else None
        if mark != "," and top is not None and top.key is not None:
            _end_member(text, top, token.end(), edits, named)
    return edits


def _end_member(
    text: str, top: _Object, end: int, edits: list[Edit], named: Collection[str]
) -> None:
    """The value of `top.key` has been read up to `end`."""
    key, value = top.key or "", text[top.since : end]
    if key in top.first:
        equal = _plain(value) == _plain(top.first[key])
        if equal or key not in named:
            while edits and edits[-1].start >= top.end:
                edits.pop()  # inside of what goes altogether
            sure: Certainty = "certain" if equal else "likely"
            reason = f"key {key!r} stands before, with {'the same' if equal else 'another'} value"
            edits.append(
                Edit(top.end, end, text[top.end : end], "", "key_repeated", reason, certainty=sure)
            )
    else:
        top.first[key] = value
    top.end, top.key, top.since = end, None, -1


def _plain(value: str) -> Any:
    return json.dumps(json.loads(value), sort_keys=True)


def named_keys(schema: Any) -> set[str]:
    """All names of properties anywhere in a JSON Schema."""
    if isinstance(schema, list):
        return {name for part in schema for name in named_keys(part)}
    if not isinstance(schema, dict):
        return set()
    properties = schema.get("properties")
    own = set(properties) if isinstance(properties, dict) else set()
    return own | {name for part in schema.values() for name in named_keys(part)}


__all__ = ["named_keys", "without_repeats"]
