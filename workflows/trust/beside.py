"""The trust file and the review file beside a job's output."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from carrara.engines.contract import to_data
from carrara.runtime.events import Accepted, Event
from carrara.workflows.batch import Binder
from carrara.workflows.calls import Definition
from carrara.workflows.kept_rows import EarlierRows
from carrara.workflows.places import PlaceError, is_stream
from carrara.workflows.plain import plain
from carrara.workflows.records import Record
from carrara.workflows.review.validating import validated_steps
from carrara.workflows.scoring.rule import marker_of
from carrara.workflows.trust.answers import Answer, Answers
from carrara.workflows.trust.facts import Facts, doubtful, facts_of
from carrara.workflows.trust.lines import Lines

_LONG = 20_000
"""Characters of a text in which a search may take longer than other records should wait."""

Beside = Mapping[str, Mapping[str, Any]]
"""The lines of one record by the kind of their file, "trust" or "review"."""


def path_beside(output: Path, kind: str) -> Path:
    """rows.jsonl -> rows.trust.jsonl; `output` is the job's, or what stands for it: rows.csv.jsonl for rows.csv."""
    return output.with_name(f"{output.stem}.{kind}.jsonl")


class Trusted:
    """Gathers what is known of each record of a job and writes it beside the output. Used in `with`, after `begin`.

    Rows with a confidence under `below` go to the review file, too; None: there is none.
    `accepted` gives what was told of the answer of a step that is taken from the journal, by its place there.
    """

    def __init__(
        self,
        workflow: Definition[..., Any],
        binder: Binder,
        output: Path,
        below: float | None,
        accepted: Callable[[int], Accepted | None],
    ) -> None:
        if is_stream(output):
            raise PlaceError(f"{output}: nothing can be put beside a device or pipe; name a file")
        self._answers = Answers(accepted)
        self._binder = binder
        self._below = below
        self._marked = marker_of(workflow).output
        self._validated = frozenset(validated_steps(workflow))
        kinds = ("trust",) if below is None else ("trust", "review")
        self.files = {kind: Lines(path_beside(output, kind)) for kind in kinds}
        self._stack = ExitStack()

    def listen(self, event: Event) -> None:
        self._answers.listen(event)

    def begin(self, kept: EarlierRows, *, fresh: bool) -> None:
        """Make the files hold what an earlier process had done, as `Lines.begin`."""
        for kind, file in self.files.items():
            file.begin(_Kept(kept, kind), fresh=fresh)

    def __enter__(self) -> Self:
        for file in self.files.values():
            self._stack.enter_context(file)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    async def beside(self, record: Record, row: Mapping[str, Any] | None) -> Beside:
        """The lines of a record that has ended; none for one that failed. Long texts are searched in a thread."""
        answers = self._answers.take(record.index)
        if row is None:
            return {}
        columns = self._binder.columns_of(record)
        name, column, text = _source(record, columns)
        if text is not None and len(text) > _LONG:
            facts = await asyncio.to_thread(facts_of, record.key, row, answers, column, text)
        else:
            facts = facts_of(record.key, row, answers, column, text)
        found: dict[str, Mapping[str, Any]] = {"trust": facts}
        doubts = [] if self._below is None else doubtful(facts, self._below)
        if doubts:
            given = {each: record.fields[column] for each, column in columns.items()}
            inputs = plain(given | dict(self._binder.constants), exact=True)
            found["review"] = self._to_review(record, row, facts, doubts, inputs, name, answers)
        return found

    def put(self, place: int, beside: Beside) -> None:
        """Write the lines of a record, whose row is in the journal."""
        for kind, file in self.files.items():
            file.put(place, beside.get(kind))

    def _to_review(
        self,
        record: Record,
        row: Mapping[str, Any],
        facts: Facts,
        doubts: list[str],
        inputs: Mapping[str, Any],
        text: str,
        answers: list[Answer],
    ) -> Mapping[str, Any]:
        outputs = {name: part for name, part in row.items() if name != "key"}
        gold_at = f"/{self._marked}" if self._marked in outputs else ""
        if not gold_at and set(outputs) == {"value"}:
            gold_at = "/value"
        return {
            "key": record.key,
            "where": record.where,
            "doubtful": doubts,
            "confidence": facts["confidence"],
            "row": outputs,
            "fields": facts["fields"],
            "inputs": inputs,
            "text": text,
            "gold_at": gold_at,
            "lesson": _lesson(outputs, answers, self._validated),
        }


@dataclass(frozen=True, slots=True)
class _Kept:
    """The lines of the finished rows for the files of one kind."""

    rows: EarlierRows
    kind: str

    def __contains__(self, place: int, /) -> bool:
        return place in self.rows

    def places(self) -> Iterable[int]:
        return self.rows.places()

    def line(self, place: int) -> Mapping[str, Any] | None:
        line: Mapping[str, Any] | None = self.rows.row(place).beside.get(self.kind)
        return line


def _source(record: Record, columns: Mapping[str, str]) -> tuple[str, str, str | None]:
    """The longest text among the inputs: the input, the record's field, and the text; ("", "", None) without one."""
    texts = {
        name: record.fields[column]
        for name, column in columns.items()
        if isinstance(record.fields[column], str)
    }
    if not texts:
        return "", "", None
    name = max(texts, key=lambda name: len(texts[name]))
    return name, columns[name], texts[name]


def _lesson(
    outputs: Mapping[str, Any], answers: list[Answer], validated: Container[str]
) -> Mapping[str, Any] | None:
    """How a corrected row teaches a model: the question of the one answer that is the row, or a field of it, as
    `carrara adapt` takes it; `at` is where in the row the answer stands. None where the row is more than one answer."""
    if len(answers) != 1 or answers[0].call is None:
        return None
    answer = answers[0]
    places = ["", *(name for name, part in outputs.items() if part == answer.value)]
    place = places[-1]
    if not place and outputs != answer.value:
        return None
    messages = [{"role": each.role, "content": each.content} for each in answer.call.messages]
    contract = to_data(answer.call.output)
    told = {"at": f"/{place}" if place else "", "messages": messages, "contract": contract}
    step = re.sub(r"\[\d+\]$", "", answer.step.rpartition("/")[2])
    return {**told, "validated_by": step} if step in validated else told


__all__ = ["Beside", "Trusted", "path_beside"]
