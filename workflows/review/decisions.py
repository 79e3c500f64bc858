"""What was decided of reviewed rows, and the labelled rows that come of it: written at once, each file whole or not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from carrara.engines.contract import Json, from_data
from carrara.workflows.decimal_texts import with_numbers
from carrara.workflows.places import OutputError, text_in
from carrara.workflows.review.rows import Lesson, ReviewError, ReviewRow, value_at
from carrara.workflows.sinks.held import held, lock_of

Kind = Literal["accepted", "edited", "rejected"]


@dataclass(frozen=True, slots=True)
class Decision:
    """`row` are the outputs as they are right: as they were, or edited; None for a rejected row. `of` is the hash of
    the outputs and inputs that were decided on, "" where it is not known."""

    kind: Kind
    row: Mapping[str, Any] | None
    of: str = ""


class Decisions:
    """The decisions beside a review file, by key. One counts for the row that it was made on: where the outputs or the
    inputs are others now, nothing is decided, and the decision makes no labelled row. The labelled row of one that is
    not up for review any more, as the job is sure of it now, stays: what was decided is right for its inputs.

    `rows.review.jsonl` gives `rows.decided.jsonl`, a line for each decision, and `rows.labelled.jsonl`, the accepted
    and edited rows as `carrara eval`, `calibrate` and `adapt` take them. Both are written whole, of what was read and
    decided here: `held_decisions` keeps others from deciding meanwhile.
    """

    def __init__(self, review: Path, rows: list[ReviewRow]) -> None:
        """Take up what was decided before.

        Raises:
            ReviewError: the file of decisions, or that of labelled rows, cannot be read.
        """
        self.decided = _beside(review, "decided")
        self.labelled = _beside(review, "labelled")
        self._rows = {row.key: row for row in rows}
        self._found = _read(self.decided)
        self._labelled_before = {
            str(line["id"]): line for line, _ in _lines(self.labelled) if "id" in line
        }

    def __getitem__(self, key: str) -> Decision | None:
        decision = self._found.get(key)
        return decision if decision is not None and self._counts(key, decision) else None

    @property
    def outdated(self) -> int:
        """How many rows have changed since they were decided on."""
        return sum(
            key in self._rows and not self._counts(key, decision)
            for key, decision in self._found.items()
        )

    def _counts(self, key: str, decision: Decision) -> bool:
        row = self._rows.get(key)
        return row is not None and row.content == decision.of

    def decide(self, key: str, decision: Decision) -> None:
        """Keep a decision, in place of an earlier one; it is on the disk when this returns.

        Raises:
            OutputError: a file cannot be written.
        """
        self._found[key] = replace(decision, of=self._rows[key].content)
        lines = [
            {"key": key, "decision": each.kind, "row": each.row, "of": each.of}
            for key, each in self._found.items()
        ]
        _write(self.decided, lines)
        _write(self.labelled, self._labelled())

    def _labelled(self) -> Iterable[Mapping[str, Any]]:
        for key, decision in self._found.items():
            if decision.row is None:
                continue
            row = self._rows.get(key)
            if row is None:
                if key in self._labelled_before:
                    yield self._labelled_before[key]
            elif self._counts(key, decision):
                yield labelled_row(row, decision.row)


@contextmanager
def held_decisions(review: Path, rows: list[ReviewRow]) -> Iterator[Decisions]:
    """The decisions beside a review file, for one review at a time. The system gives them back when the process ends,
    however it ends.

    Raises:
        PlaceError: another review of the file goes on, or nothing can be written beside it.
        ReviewError: see `Decisions`.
    """
    decided = _beside(review, "decided")
    refusal = f"{review}: somebody reviews it now. Wait until that review has ended; what it decides is kept."
    with held(lock_of(decided), str(decided), refusal):
        yield Decisions(review, rows)


def _beside(review: Path, kind: str) -> Path:
    """rows.review.jsonl -> rows.decided.jsonl"""
    stem = review.name.removesuffix(".jsonl").removesuffix(".review")
    return review.with_name(f"{stem}.{kind}.jsonl")


def labelled_row(reviewed: ReviewRow, right: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs with `gold`; for a row that is one answer also its question, contract and right answer."""
    made = {"id": reviewed.key, **reviewed.inputs, "gold": value_at(right, reviewed.gold_at)}
    lesson = reviewed.lesson
    if lesson is not None:
        more = {
            "messages": lesson.messages,
            "contract": lesson.contract,
            "response": _response(value_at(right, lesson.at), lesson),
        }
        if not more.keys() & made.keys() and "prompt" not in made:
            made |= more
    return made


def _response(value: Any, lesson: Lesson) -> Any:
    """The right answer as the model should have given it."""
    contract = from_data(lesson.contract)
    return with_numbers(value, contract.schema) if isinstance(contract, Json) else value


def _read(path: Path) -> dict[str, Decision]:
    found: dict[str, Decision] = {}
    for data, where in _lines(path):
        try:
            key = data["key"]
            decision = Decision(data["decision"], data["row"], str(data.get("of", "")))
        except KeyError as error:
            raise _no_line(where, error) from error
        if decision.kind not in get_args(Kind):
            raise ReviewError(
                f"{where}: no decision is called {decision.kind!r}; there are {', '.join(get_args(Kind))}"
            )
        found[key] = decision
    return found


def _lines(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Each line of a file that a review wrote, and where it stands; none where there is no file."""
    if not path.exists():
        return
    for number, line in enumerate(text_in(path, ReviewError).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            yield dict(json.loads(line)), where
        except (ValueError, TypeError) as error:
            raise _no_line(where, error) from error


def _no_line(where: str, error: Exception) -> ReviewError:
    return ReviewError(
        f"{where}: no line of a review ({type(error).__name__}: {error}); mend it, or take it out and decide again"
    )


def _write(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror}; what was decided before is kept: review again once it can be"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


__all__ = ["Decision", "Decisions", "Kind", "held_decisions", "labelled_row"]
