"""Tier 2: the holes of a document filled by one call. The model writes the holes' content only, never the document.

The canvas is a JSON object with one slot for each hole: its keys are pinned, each slot has the type and the length of
its hole, and in a cell no character that means structure. The document stands in the prompt with numbered blanks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from carrara.engines.contract import Json
from carrara.engines.engine import Engine
from carrara.engines.request import Limits, Message, Request, Usage
from carrara.runtime.repair.report import Edit, Hole

MOST_HOLES = 32  # in one call; a document with more is not repaired but written anew
_MOST_ITEMS = 4  # in a list that was lost
_AROUND = 3000  # characters of the document shown to the model
# At least one letter or digit, or nothing would be filled; \w would make a large automaton, and so would a length.
_WORD = "[0-9A-Za-zÀ-ÖØ-öø-ɏͰ-ϿЀ-ӿ一-鿿]"
_CELL = rf"^[^|\\`\n\r]*{_WORD}[^|\\`\n\r]*$"
_TEXT = rf"^[^\\`\n\r]*{_WORD}[^\\`\n\r]*$"


def blanks(text: str, holes: Sequence[Hole]) -> str:
    """The document with ____(1) and so on in the place of its holes, cut to what stands around them."""
    parts, at = [], 0
    for number, hole in enumerate(holes, 1):
        parts += [text[at : hole.start], f"____({number})"]
        at = hole.end
    shown = "".join(parts) + text[at:]
    if len(shown) <= _AROUND:
        return shown
    first, last = shown.find("____(1)"), shown.rfind("____(")
    room = max(0, _AROUND - (last - first)) // 2
    return shown[max(0, first - room) : last + room + 8]


def infill_request(text: str, kind: str, holes: Sequence[Hole], token_budget: int) -> Request:
    """The one request for all holes, numbered from 1."""
    properties = {str(number): _slot(hole, kind, text) for number, hole in enumerate(holes, 1)}
    contract = Json.of(
        {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        },
        "blanks",
    )
    what = "this JSON" if kind == "json" else "this text"
    ask = (
        f"Some parts of {what} were lost. Write what belongs into each numbered blank, as short as the entries beside "
        f"it.\n\n{blanks(text, holes)}\n\nAnswer with one JSON object that has the blanks' numbers as keys."
    )
    written = sum(hole.max_tokens + 8 for hole in holes) + 8
    return Request((Message("user", ask),), contract, Limits(max_tokens=min(token_budget, written)))


def _slot(hole: Hole, kind: str, text: str) -> dict[str, Any]:
    """The schema of a hole's slot."""
    if hole.options:
        return {"enum": list(hole.options)}
    words = _CELL if kind != "json" and _in_cell(text, hole) else _TEXT
    if hole.type == "array":
        return {"type": "array", "items": _scalar(hole.items, words), "maxItems": _MOST_ITEMS}
    return _scalar(hole.type, words)


def _scalar(kind: str, words: str) -> dict[str, Any]:
    """Where nothing says what the lost value was, the engine chooses its type."""
    string = {"type": "string", "pattern": words}
    if kind in ("number", "integer", "boolean"):
        return {"type": kind}
    return (
        string if kind == "string" else {"anyOf": [string, {"type": "number"}, {"type": "boolean"}]}
    )


def _in_cell(text: str, hole: Hole) -> bool:
    start = text.rfind("\n", 0, hole.start) + 1
    end = text.find("\n", hole.end)
    return "|" in text[start : end if end >= 0 else len(text)]


async def infill(
    text: str, kind: str, holes: Sequence[Hole], engine: Engine, token_budget: int
) -> tuple[list[Edit], tuple[Hole, ...], Usage, int]:
    """Edits of `text` that fill the holes whose slots passed, the holes with `filled_by`, what it took and how many
    calls. Slots that did not pass are asked for once more, pinned ones kept, if the engine can refine a draft.

    Raises:
        EngineError: as the engine says.
    """
    asked = [hole for hole in holes if hole.type != "object"][:MOST_HOLES]
    if not asked:
        return [], tuple(holes), Usage(), 0
    request = infill_request(text, kind, asked, token_budget)
    completion = await engine.complete(request)
    usage, calls = completion.usage, 1
    values = _values(completion.text)
    failed = [
        n
        for n, hole in enumerate(asked, 1)
        if _written(values.get(str(n)), hole, kind, text) is None
    ]
    if failed and len(failed) < len(asked) and "drafts" in engine.can and values:
        from carrara.engines.request import Draft

        draft = Draft(completion.text, tuple(f"/{number}" for number in failed))
        completion = await engine.complete(replace(request, draft=draft))
        usage, calls = usage + completion.usage, 2
        values |= {str(n): _values(completion.text).get(str(n)) for n in failed}
    edits = []
    filled = {}
    for number, hole in enumerate(asked, 1):
        written = _written(values.get(str(number)), hole, kind, text)
        if written is None:
            continue
        before = text[hole.start : hole.end]
        reason = f"written by {engine.name} for what is lost here"
        edits.append(Edit(hole.start, hole.end, before, written, "infill", reason, 2, "likely"))
        filled[hole.start] = replace(hole, filled_by=engine.name)
    return edits, tuple(filled.get(hole.start, hole) for hole in holes), usage, calls


def _values(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _written(value: Any, hole: Hole, kind: str, text: str) -> str | None:
    """How a slot's value is written into the hole; None if it may not stand there."""
    if kind == "json":
        return _json_text(value, hole)
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return None
    plain = " ".join(str(value).split())
    if (
        not plain
        or "\\" in plain
        or "`" in plain
        or len(plain) > 200
        or not re.search(r"\w", plain)
    ):
        return None
    if not _in_cell(text, hole):
        before, after = text[hole.start - 1 : hole.start], text[hole.end : hole.end + 1]
        return f"{' ' if before.strip() else ''}{plain}{' ' if after.strip() else ''}"
    return None if "|" in plain else f" {plain} "


def _json_text(value: Any, hole: Hole) -> str | None:
    if value is None or value == "" or (hole.options and value not in hole.options):
        return None
    if isinstance(value, list):
        fits = hole.type == "array" and all(_fits(item, hole.items) for item in value)
    else:
        fits = _fits(value, hole.type)
    return json.dumps(value, ensure_ascii=False) if fits else None


def _fits(value: Any, kind: str) -> bool:
    """Whether a scalar is of a type; a boolean is no number."""
    if kind == "any":
        return isinstance(value, str | int | float)
    if isinstance(value, bool):
        return kind == "boolean"
    wanted = {"number": int | float, "integer": int, "string": str}.get(kind)
    return wanted is not None and isinstance(value, wanted)


__all__ = ["MOST_HOLES", "blanks", "infill", "infill_request"]
