"""E-mail: .eml files and .mbox folders, read by the standard library. Each message is a record."""

from __future__ import annotations

import mailbox
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from email.parser import BytesParser
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from carrara.engines.errors import CarraraError
from carrara.workflows.sources.mail_body import Part, body_of
from carrara.workflows.sources.mail_header import AS_SENT
from carrara.workflows.sources.record import (
    MAX_TEXT_BYTES,
    Record,
    SourceError,
    Unreadable,
    broken,
)


def read_message(path: Path) -> Iterator[Record]:
    """The one record of an .eml file."""
    empty = Record(0, str(path), str(path))
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            yield broken(empty, f"larger than {MAX_TEXT_BYTES // 2**20} MiB")
            return
        raw = path.read_bytes()
    except OSError as error:
        yield broken(empty, f"cannot be read: {error.strerror}")
        return
    yield _record(empty, raw, {"path": str(path), "name": path.stem})


def read_mailbox(path: Path) -> Iterator[Record]:
    """A record for each message of an .mbox file; the key is the Message-ID, else the number."""
    try:
        box = mailbox.mbox(str(path), factory=None, create=False)
    except (OSError, mailbox.Error) as error:
        raise SourceError(f"cannot read {path}: {error}") from error
    try:
        keys = box.keys()
        if not keys:
            raise SourceError(f"{path}: empty, there is no message in it")
        for index, key in enumerate(keys):
            empty = Record(index, f"message:{index + 1}", f"{path}:message {index + 1}")
            yield _record(empty, box.get_bytes(key), {"path": str(path)})
    finally:
        box.close()


def _record(empty: Record, raw: bytes, more: Mapping[str, Any]) -> Record:
    """The record of a message; one over which the parser breaks is broken like any other that cannot be used."""
    raw = raw.removeprefix(BOM_UTF8).lstrip(b"\r\n")
    if not raw.strip():
        return broken(empty, "the file is empty")
    if len(raw) > MAX_TEXT_BYTES:
        return broken(empty, f"larger than {MAX_TEXT_BYTES // 2**20} MiB")
    try:
        message = BytesParser(policy=AS_SENT).parsebytes(raw)
        if not message.keys():
            return broken(empty, "not an e-mail: it has no header")
        body = body_of(message)
        fields = {
            **_headers(message),
            "text": body.text,
            "attachments": body.attachments,
            **more,
        }
        named = str(message.get("Message-ID", "")).strip("<> \t\r\n")
    except Unreadable as error:
        return broken(empty, str(error))
    except CarraraError:
        raise
    except RecursionError:
        return broken(empty, "not a readable e-mail: it nests its parts too deeply")
    except Exception as error:
        return broken(empty, f"not a readable e-mail: {type(error).__name__}: {error}")
    key = named if named and ":message " in empty.where else empty.key
    return Record(empty.index, key, empty.where, fields)


def _headers(message: Part) -> dict[str, Any]:
    return {
        "subject": str(message.get("Subject", "")),
        "from": str(message.get("From", "")),
        "to": str(message.get("To", "")),
        "cc": str(message.get("Cc", "")),
        "date": _date(message),
    }


def _date(message: Part) -> str | None:
    """ISO 8601, None where there is none that can be read."""
    try:
        return parsedate_to_datetime(str(message["Date"])).isoformat()
    except (TypeError, ValueError, OverflowError, IndexError):
        return None


__all__ = ["read_mailbox", "read_message"]
