"""The rows of an output of a job, whatever it is, with values of their own types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePath

from carrara.workflows.comparing.forms import ARROW, CSV, JSON, KEPT, SERVER, SQLITE, Form
from carrara.workflows.digits import Digits, as_exact
from carrara.workflows.records import EmptySource, Record, SourceError, read_records
from carrara.workflows.sources.duck import is_duckdb
from carrara.workflows.sources.record import lacking
from carrara.workflows.sources.sql import is_database

KEY = "key"
_FORMS = {".jsonl": JSON, ".ndjson": JSON, ".csv": CSV, ".tsv": CSV, ".parquet": ARROW}


@dataclass(frozen=True, slots=True)
class Output:
    """Rows of an output, read one by one, the form in which they stand there, and the field that is their key."""

    form: Form
    rows: Iterable[Record]
    key: str = KEY


def read_output(place: str, key: str = KEY) -> Output:
    """An output of a job: a file, a table, or JSON lines on standard input ("-"). `key` names the field that is the
    key of a row.

    Raises:
        SourceError: now where it is no output; while it is read where it, or a row of it, cannot be read, a row has no
            key, or that of another.
    """
    return Output(_form_of(place), _whole(read_records(place, key=key, keep=(*KEPT, Digits))), key)


def _form_of(place: str) -> Form:
    if is_database(place):
        return SQLITE if place.startswith("sqlite") else SERVER
    if is_duckdb(place):
        return ARROW
    suffix = PurePath(place).suffix.lower()
    form = JSON if place == "-" else _FORMS.get(suffix)
    if form is None:
        what = f"not {suffix!r}" if suffix else "and this name does not say which"
        raise SourceError(
            f"{place}: an output of a job is a .jsonl, .ndjson, .csv or .parquet file or a table "
            f"(duckdb:///FILE#TABLE, sqlite:///FILE#TABLE, postgresql://HOST/NAME#TABLE), {what}"
        )
    return form


def _whole(records: Iterator[Record]) -> Iterator[Record]:
    """The rows; none of an empty output."""
    try:
        for record in records:
            if record.problem is not None:
                raise SourceError(f"{record.where}: {record.problem}. {_HINT}")
            if (reason := lacking(record)) is not None:
                raise SourceError(f"{record.where}: {reason}")
            yield replace(record, fields=as_exact(record.fields))
    except EmptySource:
        return


_HINT = "Every row needs a key of its own to be compared: mend the row, or name another field with --key."

__all__ = ["KEY", "Output", "read_output"]
