"""One run that puts many records through a workflow, a bounded number at a time, and stops for none of them.

Jobs and evaluations are both this, with another end for what comes out.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from carrara.engines.errors import CarraraError
from carrara.runtime.run import submit_map
from carrara.runtime.step import StepSpec
from carrara.workflows.records import Record


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a record: its `value`, or the `error`. `seconds` is wall time in the workflow."""

    record: Record
    value: Any
    error: CarraraError | None
    seconds: float


class RecordError(CarraraError):
    """A record could not be read, or does not fit the workflow's inputs."""


Bind = Callable[[Record], Mapping[str, Any]]
"""Turns a record into the workflow's arguments; raises RecordError for one that does not fit."""


def batch_of(
    workflow: Callable[..., Any],
    records: Iterable[Record],
    bind: Bind,
    each: Callable[[Outcome], Awaitable[None]],
    *,
    concurrency: int,
) -> Callable[[], Any]:
    """A workflow function over all `records`, for the runtime to execute.

    Each record is a child `record[i]` with a scope of its own. Its failure is handed to `each` like its
    value; an error that `each` raises (a full disk, say) ends the run.
    """

    async def one(record: Record) -> None:
        started = time.perf_counter()
        value, error = None, None
        try:
            if record.problem is not None:
                raise RecordError(f"{record.where}: {record.problem}")
            value = await workflow(**bind(record))
        except CarraraError as caught:
            error = caught
        await each(Outcome(record, value, error, time.perf_counter() - started))

    spec = StepSpec("record", one, kind="workflow")

    async def batch() -> None:
        await submit_map(spec, records, {}, limit=concurrency)

    return batch


def binder(
    inputs: Mapping[str, bool],
    *,
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, Any] | None = None,
) -> Bind:
    """How records become arguments. `inputs` maps a workflow input to whether it must be given.

    An input takes its constant, else the column that `columns` names for it, else the field of its own
    name; the only required input without one takes the field `text` or `input`.
    """
    columns, constants = columns or {}, constants or {}
    open_inputs = [name for name, required in inputs.items() if required and name not in constants]

    def bind(record: Record) -> dict[str, Any]:
        arguments = dict(constants)
        for name, required in inputs.items():
            if name in constants:
                continue
            column = _column(record, name, columns, sole=open_inputs == [name])
            if column is not None:
                arguments[name] = record.fields[column]
            elif required:
                raise RecordError(_missing(record, columns.get(name, name), name))
        return arguments

    return bind


def _column(record: Record, name: str, columns: Mapping[str, str], *, sole: bool) -> str | None:
    if name in columns:
        return columns[name] if columns[name] in record.fields else None
    usual = (name, "text", "input") if sole else (name,)
    return next((column for column in usual if column in record.fields), None)


def _missing(record: Record, column: str, name: str) -> str:
    there = ", ".join(record.fields) or "none"
    return (
        f"{record.where}: no field {column!r} for the input {name!r}; its fields are: {there}. "
        f"Name another with --map {name}=FIELD."
    )
