"""Records for jobs and evaluations: read one by one from files, each with the place it came from.

A source is a glob of documents (text, Markdown, HTML, PDF, e-mail) and tables (.jsonl, .csv, .tsv, .parquet, .mbox), a
table or query of an SQL or DuckDB database, or "-" (JSON lines on standard input). A record that
cannot be read is handed on as broken, with its reason, so that a job loses none and stops for none.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from carrara.runtime.errors import writable
from carrara.workflows.digits import Digits
from carrara.workflows.key_set import KeySet, Spots
from carrara.workflows.row_format import JSON_LINES
from carrara.workflows.sources.delimited import read_csv
from carrara.workflows.sources.documents import read_document
from carrara.workflows.sources.duck import is_duckdb, read_duckdb
from carrara.workflows.sources.mail import read_mailbox, read_message
from carrara.workflows.sources.matching import matching, oddity
from carrara.workflows.sources.parquet import read_parquet
from carrara.workflows.sources.record import (
    MAX_TEXT_BYTES,
    EmptySource,
    Kept,
    Record,
    SourceError,
    broken,
    content_hash,
    key_of,
    key_text,
)
from carrara.workflows.sources.sql import is_database, read_sql

_decoded = json.JSONDecoder().decode
_decoded_exactly = json.JSONDecoder(parse_float=Digits).decode


def read_records(
    source: str, folder: str = "", key: str | None = None, keep: Kept = ()
) -> Iterator[Record]:
    """Records of `source` in order, read lazily. A relative path is meant from `folder`, "" for the working folder;
    keys and places are the same wherever it is read from.

    Documents give the fields `text`, `path` and `name`, and what their format tells; lines and rows give their own. The
    key is the field `id` or `key` where there is one, else the path, or the line as in `line:3`. Where several files
    match, the keys of lines and rows begin with their file's path, and a file that cannot be read is a broken record.
    So is a record with the key of an earlier one. With `key` the field of that name is the key, and nothing else.
    Values of typed tables are JSON data, but for those of the types to `keep`; with `Digits` among these, numbers of
    JSON lines know their digits.

    Raises:
        SourceError: no file matches, or the only one is unreadable or empty, or a CSV without a header; a source of
            a kind that there is not.
    """
    kind = re.match(r"([A-Za-z][\w+.-]*)://", source)
    if kind and not (is_database(source) or is_duckdb(source)):
        raise SourceError(
            f"{kind[1]}:// is no kind of source; there are files (a glob like 'texts/*.txt'), sqlite:///FILE#TABLE, "
            "duckdb:///FILE#TABLE, postgresql://HOST/NAME#TABLE, and - for JSON lines on standard input"
        )
    once = _once if key is None else _as_they_are
    if is_database(source):
        found = once(read_sql(source, folder, keep))
    elif is_duckdb(source):
        found = once(read_duckdb(source, folder, keep))
    elif folder not in ("", os.getcwd()) and source != "-" and not os.path.isabs(source):
        found = _from_folder(_read(source, once, keep, folder), folder)
    else:
        found = _read(source, once, keep)
    yield from map(_nameable, found if key is None else _once(_keyed(found, key)))


def _from_folder(records: Iterator[Record], folder: str) -> Iterator[Record]:
    """The records as they are called where `folder` is the working folder."""
    prefix = os.path.join(folder, "")
    for record in records:
        fields = record.fields
        path = fields.get("path")
        if isinstance(path, str) and record.where in (path, f"{path}:message {record.index + 1}"):
            fields = {**fields, "path": path.removeprefix(prefix)}
        key, where = record.key.removeprefix(prefix), record.where.removeprefix(prefix)
        yield replace(record, key=key, where=where, fields=fields)


def _read(source: str, once: Once, keep: Kept, folder: str = "") -> Iterator[Record]:
    if source == "-":
        yield from once(_jsonl(sys.stdin.buffer, "stdin", keep))
        return
    paths = matching(source, folder)
    if len(paths) == 1:
        yield from _file(paths[0], once, keep)
        return
    index = 0
    for path in paths:
        for record in _one_of_many(path, once, keep):
            yield replace(record, index=index)
            index += 1


def _file(path: Path, once: Once, keep: Kept) -> Iterator[Record]:
    """The records of one file, counted from 0."""
    if (problem := oddity(path)) is not None:
        raise SourceError(f"{path}: {problem}")
    suffix = path.suffix.lower()
    reader = _TABLES.get(suffix)
    if suffix == ".parquet":
        yield from once(read_parquet(path, keep))
    elif suffix in JSON_LINES:
        yield from once(_json_lines(path, keep))
    elif reader is not None:
        yield from once(reader(path))
    else:
        yield read_document(path)


def _once(records: Iterator[Record]) -> Iterator[Record]:
    """The same records; a key that comes again makes a record broken: its rows could not be told apart."""
    seen, spots = KeySet(), Spots()
    for record in records:
        if record.problem is not None:  # it makes no row, so that none is taken for its
            yield record
            continue
        first = seen.add(record.key, spots.number(record))
        if first is not None:
            problem = f"the id {record.key!r} stands already at {spots.name(first)}"
            record = replace(record, problem=problem)
        yield record


def _as_they_are(records: Iterator[Record]) -> Iterator[Record]:
    return records


Once = Callable[[Iterator[Record]], Iterator[Record]]


def _keyed(records: Iterator[Record], name: str) -> Iterator[Record]:
    """The records with another field as their key; one without it is broken."""
    for record in records:
        found = record.fields.get(name)
        if record.problem is not None:
            yield record
        elif name in record.unused:
            yield broken(record, record.unused[name])
        elif found is None or found == "" or isinstance(found, dict | list):
            there = ", ".join(record.fields) or "none"
            yield broken(record, f"no key in the field {name!r}; its fields are: {there}")
        else:
            yield replace(record, key=key_text(found))


def _nameable(record: Record) -> Record:
    """The record, broken where its key or its place is no text that can be written down."""
    if record.key.isascii() and record.where.isascii():
        return record
    key, where = writable(record.key), writable(record.where)
    if (key, where) == (record.key, record.where):
        return record
    problem = (
        record.problem or f"its key {record.key!r} is not Unicode text: it holds half a character"
    )
    return broken(replace(record, key=key, where=where), problem)


def _one_of_many(path: Path, once: Once, keep: Kept) -> Iterator[Record]:
    try:
        for record in _file(path, once, keep):
            own = record.key == str(path)
            yield record if own else replace(record, key=f"{path}:{record.key}")
    except SourceError as error:
        yield Record(0, str(path), str(path), {}, str(error).removeprefix(f"{path}: "))


def _open(path: Path) -> io.BufferedReader:
    try:
        return path.open("rb")
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


def _jsonl(lines: Any, name: str, keep: Kept) -> Iterator[Record]:
    index, decoded = 0, _decoded_exactly if Digits in keep else _decoded
    for number, raw in enumerate(lines, start=1):
        if raw.isspace():
            continue
        yield _json_line(raw, decoded, index, f"line:{number}", f"{name}:{number}")
        index += 1
    if not index:
        raise EmptySource(f"{name}: empty, there is no record in it")


def _json_lines(path: Path, keep: Kept) -> Iterator[Record]:
    with _open(path) as lines:
        yield from _jsonl(lines, str(path), keep)


def _json_line(
    raw: bytes, decoded: Callable[[str], Any], index: int, usual: str, where: str
) -> Record:
    """The record of one line; its key is `usual` where the line gives none."""
    try:
        row = decoded(raw.removeprefix(BOM_UTF8).decode())
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 text (byte {error.start} of the line)"
    except json.JSONDecodeError as error:
        problem = f"not JSON: {error.msg} (column {error.colno})"
    except ValueError:  # Python reads no longer integers: that would take quadratic time
        most = sys.get_int_max_str_digits()
        problem = f"not usable JSON: an integer of more than {most} digits"
    except RecursionError:
        problem = "not usable JSON: nested too deeply"
    else:
        if isinstance(row, dict):
            return Record(index, key_of(row, usual), where, row)
        problem = f"a JSON object is needed, found {type(row).__name__}"
    return Record(index, usual, where, {}, problem)


_TABLES: Mapping[str, Callable[[Path], Iterator[Record]]] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".eml": read_message,
    ".mbox": read_mailbox,
}
"""Readers of files that hold many records, or whose one record is no plain document, by suffix; JSON lines and Parquet
beside them."""


__all__ = ["MAX_TEXT_BYTES", "EmptySource", "Record", "SourceError", "content_hash", "read_records"]
