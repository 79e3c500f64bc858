"""One run that puts many records through a workflow, a bounded number at a time, and stops for none of them.

Jobs and evaluations are both this, with another end for what comes out.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from carrara.engines.errors import CarraraError
from carrara.runtime.errors import StepError
from carrara.runtime.fanout import ABSENT
from carrara.runtime.feed import Skip
from carrara.runtime.handle import Handle
from carrara.runtime.run import run_within, submit_feed
from carrara.runtime.step import StepSpec
from carrara.workflows.calls import Definition
from carrara.workflows.digits import Digits
from carrara.workflows.inputs import InputReader
from carrara.workflows.parameters import MISSING
from carrara.workflows.records import Record


@dataclass(slots=True)
class Outcome:
    """What became of a record: its `value`, or the `error`. `seconds` is wall time in the workflow.

    Not frozen, like rows and records, only because a frozen one takes three times as long to make."""

    record: Record
    value: Any
    error: CarraraError | None
    seconds: float


class RecordError(CarraraError):
    """A record could not be read, or does not fit the workflow's inputs."""


class Halt(Exception):
    """Ends the whole batch, where a record cannot run for a reason that is not its own: `error`."""

    def __init__(self, error: CarraraError) -> None:
        super().__init__(str(error))
        self.error = error


class Done(Enum):
    """Stands for a record that needs no more work."""

    DONE = auto()


DONE = Done.DONE

Each = Callable[[Outcome], Awaitable[None]]


def batch_of(
    workflow: Definition[..., Any],
    records: Iterable[Record | Done | Skip],
    binder: Binder,
    each: Each,
    *,
    concurrency: int | Callable[[], int],
    room: Callable[[int], bool] | None = None,
    elsewhere: Callable[[Record], Awaitable[Any]] | None = None,
) -> Callable[[], Awaitable[None]]:
    """A workflow function over all `records`, for `Session.execute`.

    Each record is a child `record[i]` with a scope of its own, where `i` counts all of `records`: what is DONE
    among them takes its place and is passed over, so that a record keeps its path in the journal. Its failure
    is handed to `each` like its value; an error that `each` raises (a full disk, say) ends the run. `records` are read
    one by one as there is room for them: fewer than `concurrency` (as it is then) under way, and `room(i)` true. An
    error in reading them ends the run when those under way have ended. With `elsewhere` it gives the workflow's value
    for a record or raises a CarraraError (or Halt), and nothing of the workflow runs here.
    """

    broken: list[Exception] = []
    feed: Handle[None]

    async def one(record: Record) -> None:
        started = time.perf_counter()
        value, error = None, None
        try:
            if elsewhere is not None:
                value = await elsewhere(record)
            else:
                given = binder.bind(record)
                value = await (run_within(whole, given) if is_workflow else workflow(**given))
        except CarraraError as caught:
            error = caught
        except Halt as caught:
            broken.append(caught.error)
            feed.cancel("no record can run any more")
            raise
        outcome = Outcome(record, value, error, time.perf_counter() - started)
        try:
            await each(outcome)
        except Exception as caught:
            broken.append(caught)
            feed.cancel("the outcome of a record could not be kept")
            raise

    spec = StepSpec("record", one, kind="workflow")
    whole = workflow.spec
    is_workflow = whole.kind == "workflow"

    def places() -> Iterator[Any]:
        try:
            for record in records:
                yield ABSENT if record is DONE else record
        except Exception as caught:
            broken.append(caught)

    async def batch() -> None:
        nonlocal feed
        feed = submit_feed(spec, places(), concurrency, room)
        try:
            await feed
        except StepError:
            if not broken:
                raise
        if broken:
            raise broken[0]

    return batch


class Binder:
    """How records become the arguments of `workflow`.

    An input takes its constant, else the field that `columns` names for it, else the field of its own
    name. The only input that must be given, or else the only one there is, takes the field `text` or `input` if none
    has its name. `can_map`: who reads the errors can name fields with --map.

    Raises:
        InputError: `columns` or `constants` name an input that the workflow does not have.
    """

    def __init__(
        self,
        workflow: Definition[..., Any],
        *,
        columns: Mapping[str, str] | None = None,
        constants: Mapping[str, Any] | None = None,
        can_map: bool = True,
    ) -> None:
        self._can_map = can_map
        self._reader = InputReader(workflow)
        self._columns = dict(columns or {})
        parameters = workflow.parameters
        self._constants = self._reader.read_some(constants or {})
        self._reader.check_names(self._columns)
        self._open = [name for name in parameters.names if name not in self._constants]
        needed = [name for name in self._open if name not in parameters.defaults]
        self._needed = frozenset(needed)
        self._texts = [name for name in needed if self._reader.needs_text(name)]
        sole = needed or self._open
        self._usual: dict[str, tuple[str, ...]] = {name: (name,) for name in self._open}
        if len(sole) == 1:
            self._usual[sole[0]] = (sole[0], "text", "input")

    def bind(self, record: Record) -> Mapping[str, Any]:
        """The typed arguments for a record.

        Raises:
            RecordError: the record is broken, a field is missing or empty where a text is needed, or it is not of the
                input's type.
        """
        if record.problem is not None:
            raise RecordError(f"{record.where}: {record.problem}")
        given: dict[str, Any] = {}
        empty = False
        for name in self._open:
            column = self._column(record, name)
            if column in record.unused:
                raise RecordError(f"{record.where}: {record.unused[column]}")
            if column in record.fields:
                value = record.fields[column]
                if record.is_cells and value == "":
                    value = self._reader.of_empty(name)
                elif value is None:
                    value = self._reader.of_null(name)
                if value is MISSING:
                    empty = True
                else:
                    given[name] = value
            elif name in self._needed or name in self._columns:
                raise RecordError(_missing(record, column, name, self._can_map))
        for name in self._texts:
            if _is_blank(given.get(name, MISSING)):
                raise RecordError(_without_text(record, self._column(record, name), name))
        if self._open and not (given or empty):
            raise RecordError(_nothing_given(record, self._open, self._can_map))
        try:
            return {**self._constants, **self._reader.read_some(given)}
        except CarraraError as error:
            raise RecordError(f"{record.where}: {error}") from error

    def columns_of(self, record: Record) -> dict[str, str]:
        """Which field of the record each input takes, of those that it has."""
        columns = {name: self._column(record, name) for name in self._open}
        return {name: column for name, column in columns.items() if column in record.fields}

    @property
    def keep(self) -> tuple[type, ...]:
        """The types of a record's values that are of use beside those of JSON, for `read_records`."""
        return (Digits,) if self._reader.keeps_digits else ()

    @property
    def constants(self) -> Mapping[str, Any]:
        """The inputs that are the same for all records."""
        return self._constants

    def _column(self, record: Record, name: str) -> str:
        if name in self._columns:
            return self._columns[name]
        for column in self._usual[name]:
            if column in record.fields or column in record.unused:
                return column
        return name


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _without_text(record: Record, column: str, name: str) -> str:
    return (
        f"{record.where}: the field {column!r} is empty, and the input {name!r} needs a text. "
        "Give the input a default if it may be empty."
    )


def _nothing_given(record: Record, inputs: Sequence[str], can_map: bool) -> str:
    """Each row would be that of the defaults: surely a misspelt field."""
    there = ", ".join(record.fields) or "none"
    return (
        f"{record.where}: no field for any input ({', '.join(inputs)}); its fields are: {there}. "
        f"{_remedy('one', inputs[0], can_map)}"
    )


def _missing(record: Record, column: str, name: str, can_map: bool) -> str:
    there = ", ".join(record.fields) or "none"
    return (
        f"{record.where}: no field {column!r} for the input {name!r}; its fields are: {there}. "
        f"{_remedy('another', name, can_map)}"
    )


def _remedy(which: str, name: str, can_map: bool) -> str:
    return (
        f"Name {which} with --map {name}=FIELD." if can_map else f"Give {which} the name {name!r}."
    )
