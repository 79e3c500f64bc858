"""The rows of a review file: what a job wrote about those that it was not sure of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from carrara.runtime.identity import text_hash
from carrara.workflows.places import FileError, text_in
from carrara.workflows.trust.tracing import is_leaf, nodes

_WRITES = (
    "A review file is what `carrara run … --review BELOW` writes beside its output, OUT.review.jsonl; "
    "where every row is surer than that there is none."
)
_NAMES = ("key", "where", "row", "fields", "doubtful", "confidence", "inputs", "text", "gold_at")


class ReviewError(FileError):
    """A review file or the decisions beside it cannot be used, or there is no terminal."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """The question to which the value at JSON pointer `at` of a row is the answer, with its contract as data.
    `validated_by` is the name of the step whose validators it has passed, None where there are none."""

    at: str
    messages: list[dict[str, str]]
    contract: Mapping[str, Any]
    validated_by: str | None = None


@dataclass(frozen=True)
class ReviewRow:
    """`row` are the outputs; `fields` the facts of each leaf by JSON pointer, as in the trust file; `doubtful` the
    pointers that were not sure enough ("" for the row). `text` is what spans count in. The value at `gold_at` is what
    `carrara eval` compares."""

    key: str
    where: str
    row: Mapping[str, Any]
    fields: Mapping[str, Mapping[str, Any]]
    doubtful: frozenset[str]
    confidence: float | None
    inputs: Mapping[str, Any]
    text: str
    gold_at: str
    lesson: Lesson | None

    @cached_property
    def content(self) -> str:
        """The hash of what a decision is made on: the outputs and the inputs."""
        return text_hash(json.dumps([self.row, self.inputs], sort_keys=True))


def read_review(path: Path) -> list[ReviewRow]:
    """The rows of a file that `carrara run --review` wrote.

    Raises:
        ReviewError: names file and line, and what is wrong there.
    """
    try:
        lines = text_in(path, ReviewError).split("\n")
    except ReviewError as error:
        raise ReviewError(f"{error}. {_WRITES}") from error
    rows = [_row(line, f"{path}:{n}") for n, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise ReviewError(f"{path}: empty, there is no row to review. {_WRITES}")
    return rows


def _row(line: str, where: str) -> ReviewRow:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise ReviewError(f"{where}: not JSON: {error}. {_WRITES}") from error
    missing = [name for name in _NAMES if not isinstance(found, dict) or name not in found]
    if missing:
        raise ReviewError(f"{where}: not a row to review, it has no {missing[0]!r}. {_WRITES}")
    try:
        inputs, lesson = found["inputs"], found.get("lesson")
        text = inputs.get(found["text"], "")
        row = ReviewRow(
            str(found["key"]),
            str(found["where"]),
            dict(found["row"]),
            {at: dict(facts) for at, facts in found["fields"].items()},
            frozenset(found["doubtful"]),
            found["confidence"],
            dict(inputs),
            text if isinstance(text, str) else "",
            str(found["gold_at"]),
            None if lesson is None else Lesson(**lesson),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReviewError(
            f"{where}: not a row to review ({type(error).__name__}: {error}). {_WRITES}"
        ) from error
    return row


def fields_of(row: Mapping[str, Any]) -> list[str]:
    """The pointers of all leaves, in order."""
    return [at for at, value in nodes(row) if at and is_leaf(value)]


def value_at(value: Any, at: str) -> Any:
    """The part of JSON data at a pointer.

    Raises:
        KeyError, IndexError: there is none.
    """
    for part in _parts(at):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def with_value(value: Any, at: str, new: Any) -> Any:
    """A copy of JSON data with another value at a pointer."""
    parts = _parts(at)
    if not parts:
        return new
    rest = "".join("/" + _escaped(part) for part in parts[1:])
    if isinstance(value, list):
        index = int(parts[0])
        return [*value[:index], with_value(value[index], rest, new), *value[index + 1 :]]
    return {**value, parts[0]: with_value(value[parts[0]], rest, new)}


def _parts(at: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in at.split("/")[1:]]


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


__all__ = [
    "Lesson",
    "ReviewError",
    "ReviewRow",
    "fields_of",
    "read_review",
    "value_at",
    "with_value",
]
