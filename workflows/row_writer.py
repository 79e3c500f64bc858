"""What becomes of a record: its row, or why it failed; the journal takes it first, and the files then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from carrara.runtime.errors import StepError, writable
from carrara.runtime.journal.recording import Recorder
from carrara.runtime.run import run_id_here
from carrara.workflows.batch import Outcome
from carrara.workflows.calls import Definition
from carrara.workflows.kept_row import KeptRow, to_keep
from carrara.workflows.opened import Opened
from carrara.workflows.places import OutputError
from carrara.workflows.plain import faithful
from carrara.workflows.records import Record, content_hash
from carrara.workflows.rows import Row
from carrara.workflows.sinks.declared import DeclaredRows
from carrara.workflows.sinks.shape import is_whole, row_columns

_REASON_END = 4096

Seen = Callable[[Outcome], None]
"""Told of every record that ends."""


class RowWriter:
    """Takes the outcomes of the run that goes on here. A row counts, and stands in a file, once the journal has it.
    `definition` is the hash of the workflow; `seen` is told of every record that has its row."""

    def __init__(
        self,
        journal: Recorder,
        opened: Opened,
        workflow: Definition[..., Any],
        definition: str,
        seen: Seen | None,
    ) -> None:
        self._journal = journal
        self._run_id = run_id_here()
        self._loop = asyncio.get_running_loop()
        self._opened = opened
        self._declared = DeclaredRows(row_columns(workflow))
        self._is_whole = is_whole(workflow)
        self._definition = definition
        self._seen = seen
        self.done = 0
        self.failed = 0
        self.remade = 0

    async def write(self, outcome: Outcome) -> None:
        """Raises JournalError or OutputError where the row cannot be kept."""
        opened, record, row = self._opened, outcome.record, self._row(outcome)
        trusted = opened.trusted
        beside = await trusted.beside(record, row.fields if row.ok else None) if trusted else None
        replaces = opened.earlier.is_outdated(record.index)
        aside = opened.aside.add(record.key) if replaces and opened.aside else None
        row.aside = opened.aside.of(record.key) if opened.aside else None
        await self._commit(record, row, beside, replaces, aside)
        opened.rows.put(row)
        if row.ok and opened.aside:
            opened.aside.replace(record.key)
        if trusted is not None and beside is not None:
            trusted.put(record.index, beside)
        self.done += row.ok
        self.failed += not row.ok
        self.remade += row.ok and replaces
        if self._seen is not None:
            failure = outcome.error or (None if row.ok else OutputError(row.fields["error"]))
            self._seen(replace(outcome, error=failure))

    async def _commit(
        self,
        record: Record,
        row: Row,
        beside: Mapping[str, Any] | None,
        replaces: bool,
        aside: int | None,
    ) -> None:
        """Returns when the journal has the row for good."""
        steps = sorted(self._journal.made_with(self._run_id, record.index))
        if row.ok:
            content = content_hash(record)
            kept = KeptRow(record.key, row.fields, content, self._definition, beside or {}, steps)
            payload, reason = to_keep(kept), ""
        else:
            payload, reason = row.fields, row.fields["error"]
        state = "done" if row.ok else "failed"
        failed_at = self._opened.earlier.try_again(record)
        if failed_at is not None:
            self._journal.forget_row(self._run_id, failed_at)
        durable = self._loop.create_future()

        def done(error: BaseException | None) -> None:
            if not durable.done():
                durable.set_result(error)

        self._journal.put_row(
            self._run_id,
            record.index,
            record.key,
            state,
            payload,
            error=reason,
            done=done,
            replaces=replaces,
            aside=aside,
        )
        error = await durable
        if error is not None:
            raise error

    def _row(self, outcome: Outcome) -> Row:
        record = outcome.record
        if outcome.error is None:
            try:
                fields = self._declared({"key": record.key, **self._outputs(outcome.value)})
                made = self._opened.rows.sink.prepare(fields)
                return Row(record.index, True, fields, made, record.where)
            except (TypeError, ValueError, ArithmeticError, OutputError) as error:
                reason = f"the result cannot be written: {error}"
        else:
            reason = _bounded(str(outcome.error))
        reason = writable(reason)
        where = {"key": record.key, "where": record.where, "error": reason}
        return Row(record.index, False, {**where, **_attempts(outcome.error)})

    def _outputs(self, value: Any) -> dict[str, Any]:
        """The fields of a row.

        Raises:
            ValueError: a part of the result has no JSON form; names the field.
        """
        found = faithful(value)
        is_object = isinstance(found, dict) and "key" not in found
        return found if is_object and not self._is_whole else {"value": found}


def _bounded(reason: str) -> str:
    """A reason that may quote its document is told with its beginning and its end."""
    if len(reason) <= 2 * _REASON_END:
        return reason
    return f"{reason[:_REASON_END]} … {reason[-_REASON_END:]}"


def _attempts(error: BaseException | None) -> dict[str, Any]:
    """What a failed record tells beside its reason: the step, and the raw text where there is one."""
    told: dict[str, Any] = {}
    if isinstance(error, StepError):
        told["step"] = error.step
    while error is not None:
        text = getattr(error, "text", None)
        if isinstance(text, str) and text:
            told["raw"] = text
        error = error.__cause__
    return told


__all__ = ["RowWriter", "Seen"]
