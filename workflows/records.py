"""Records for jobs and evaluations: read one by one from files, each with the place it came from.

A source is a glob of text, .jsonl and .csv files, or "-" (JSON lines on standard input). A record that
cannot be read is handed on as broken, with its reason, so that a job loses none and stops for none.
"""

from __future__ import annotations

import csv
import glob
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from carrara.engines.errors import CarraraError

MAX_TEXT_BYTES = 64 * 2**20
"""A single text record larger than this is refused: it cannot be one model call, or a thousand."""


class SourceError(CarraraError):
    """A source as a whole cannot be read: nothing matches, or the columns are not those asked for."""


@dataclass(frozen=True, slots=True)
class Record:
    """One input row. `key` is unique in its source, `where` reads `file:line` or the file's path. `problem` says
    why the record is broken; its `fields` are then empty, unless all that is wrong is its key."""

    index: int
    key: str
    where: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None


def content_hash(record: Record) -> str:
    """32 hex digits of the record's fields, whose order does not count; "" where they are nested too deeply."""
    try:
        text = json.dumps(record.fields, sort_keys=True)
    except RecursionError:  # it was read with less of the stack in use
        return ""
    return blake2b(text.encode(), digest_size=16).hexdigest()


def read_records(source: str, folder: str = "") -> Iterator[Record]:
    """Records of `source` in order, read lazily. A relative path is meant from `folder`, "" for the working folder;
    keys and places are the same wherever it is read from.

    Text files give the fields `text`, `path` and `name`; JSON lines and CSV rows give their own fields. The
    key is the field `id` or `key` where there is one, else the path or the line number. Where several files match,
    the keys of lines and rows begin with their file's path, and a file that cannot be read is a broken record. So is
    a record with the key of an earlier one.

    Raises:
        SourceError: no file matches, or the only one is unreadable or empty, or a CSV without a header.
    """
    if folder not in ("", os.getcwd()) and source != "-" and not os.path.isabs(source):
        found = _from_folder(read_records(os.path.join(folder, source)), folder)
    else:
        found = _read(source)
    yield from found


def _from_folder(records: Iterator[Record], folder: str) -> Iterator[Record]:
    """The records as they are called where `folder` is the working folder."""
    prefix = os.path.join(folder, "")
    for record in records:
        fields = record.fields
        if fields.get("path") == record.where:  # a text file
            fields = {**fields, "path": record.where.removeprefix(prefix)}
        key, where = record.key.removeprefix(prefix), record.where.removeprefix(prefix)
        yield replace(record, key=key, where=where, fields=fields)


def _read(source: str) -> Iterator[Record]:
    if source == "-":
        yield from _once(_jsonl(sys.stdin.buffer, "stdin"))
        return
    paths = _matching(source)
    if len(paths) == 1:
        yield from _file(paths[0])
        return
    index = 0
    for path in paths:
        for record in _one_of_many(path):
            yield replace(record, index=index)
            index += 1


def _file(path: Path) -> Iterator[Record]:
    """The records of one file, counted from 0."""
    if path.suffix == ".jsonl":
        with _open(path) as lines:
            yield from _once(_jsonl(lines, str(path)))
    elif path.suffix == ".csv":
        yield from _once(_csv(path))
    else:
        yield _text_file(0, path)


def _once(records: Iterator[Record]) -> Iterator[Record]:
    """The records of one file; a key that comes again makes a record broken: its rows could not be told apart."""
    lines: dict[str, str] = {}
    for record in records:
        place, _, line = record.where.rpartition(":")
        first = lines.setdefault(record.key, line)
        if first is not line and record.problem is None:
            problem = f"the id {record.key!r} stands already at {place}:{first}"
            record = replace(record, problem=problem)
        yield record


def _one_of_many(path: Path) -> Iterator[Record]:
    try:
        for record in _file(path):
            own = record.key == str(path)
            yield record if own else replace(record, key=f"{path}:{record.key}")
    except SourceError as error:
        yield Record(0, str(path), str(path), {}, str(error).removeprefix(f"{path}: "))


def _matching(source: str) -> list[Path]:
    if Path(source).is_dir():
        raise SourceError(f"{source} is a folder. Name its files, for example '{source}/*.txt'.")
    paths = [Path(p) for p in sorted(glob.glob(source, recursive=True)) if Path(p).is_file()]
    if not paths:
        raise SourceError(
            f"no file matches {source!r}. Quote globs, so that the shell leaves them."
        )
    return paths


def _open(path: Path) -> io.BufferedReader:
    try:
        return path.open("rb")
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


def _text_file(index: int, path: Path) -> Record:
    broken = Record(index, str(path), str(path))
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            return _broken(broken, f"larger than {MAX_TEXT_BYTES // 2**20} MiB")
        raw = path.read_bytes()
    except OSError as error:
        return _broken(broken, f"cannot be read: {error.strerror}")
    problem = _text_problem(raw)
    if problem:
        return _broken(broken, problem)
    text = raw.decode("utf-8-sig")
    return Record(index, str(path), str(path), {"text": text, "path": str(path), "name": path.stem})


def _text_problem(raw: bytes) -> str | None:
    if not raw.strip():
        return "the file is empty"
    if b"\x00" in raw:
        return "a binary file, not text (it holds NUL bytes)"
    try:
        raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return f"not UTF-8 text (byte {error.start}: {error.reason})"
    return None


def _jsonl(lines: Any, name: str) -> Iterator[Record]:
    index = 0
    for number, raw in enumerate(lines, start=1):
        if not raw.strip():
            continue
        yield _json_line(index, raw, f"{name}:{number}", str(number))
        index += 1
    if not index:
        raise SourceError(f"{name}: empty, there is no record in it")


def _json_line(index: int, raw: bytes, where: str, number: str) -> Record:
    broken = Record(index, number, where)
    try:
        row = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return _broken(broken, f"not UTF-8 text (byte {error.start} of the line)")
    except json.JSONDecodeError as error:
        return _broken(broken, f"not JSON: {error.msg} (column {error.colno})")
    except RecursionError:
        return _broken(broken, "not usable JSON: nested too deeply")
    if not isinstance(row, dict):
        return _broken(broken, f"a JSON object is needed, found {type(row).__name__}")
    return Record(index, str(row.get("id", row.get("key", number))), where, row)


def _csv(path: Path) -> Iterator[Record]:
    csv.field_size_limit(MAX_TEXT_BYTES)
    with _open(path) as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as text:
        reader = csv.DictReader(text)
        try:
            names = reader.fieldnames
        except (UnicodeDecodeError, csv.Error) as error:
            raise SourceError(f"{path}: not a CSV file in UTF-8: {error}") from error
        if not names:
            raise SourceError(f"{path}: empty; a CSV file needs a header line")
        yield from _csv_rows(path, reader)


def _csv_rows(path: Path, reader: csv.DictReader[str]) -> Iterator[Record]:
    index = 0
    while True:
        where = f"{path}:{reader.line_num + 1}"
        broken = Record(index, str(reader.line_num + 1), where)
        try:
            row = next(reader, None)
        except UnicodeDecodeError as error:
            yield _broken(
                broken, f"not UTF-8 text from here on ({error.reason}); the rest is not read"
            )
            return
        except csv.Error as error:
            yield _broken(broken, f"not CSV: {error}")
            index += 1
            continue
        if row is None:
            return
        yield _csv_record(broken, row)
        index += 1


def _csv_record(broken: Record, row: dict[Any, Any]) -> Record:
    if None in row:
        return _broken(broken, f"{len(row[None])} cells more than the header has columns")
    missing = [name for name, cell in row.items() if cell is None]
    if missing:
        return _broken(broken, f"no cell for {', '.join(missing)}")
    key = row.get("id") or row.get("key") or broken.key
    return Record(broken.index, str(key), broken.where, row)


def _broken(record: Record, problem: str) -> Record:
    return Record(record.index, record.key, record.where, {}, problem)
