"""E-mail: .eml files and .mbox folders, read by the standard library. Each message is a record."""

from __future__ import annotations

import mailbox
from collections.abc import Iterator, Mapping
from datetime import datetime
from email import policy
from email.message import EmailMessage, MIMEPart
from email.parser import BytesParser
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from carrara.workflows.sources import html
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
    if not raw.strip():
        return broken(empty, "the file is empty")
    message = BytesParser(policy=policy.default).parsebytes(raw)
    if not message.keys():
        return broken(empty, "not an e-mail: it has no header")
    try:
        fields = {**_headers(message), "text": _body(message), **more}
    except Unreadable as error:
        return broken(empty, str(error))
    except (ValueError, LookupError) as error:
        return broken(empty, f"not a readable e-mail: {error}")
    named = str(message.get("Message-ID", "")).strip("<> ")
    key = named if named and ":message " in empty.where else empty.key
    return Record(empty.index, key, empty.where, fields)


def _headers(message: EmailMessage) -> dict[str, Any]:
    return {
        "subject": str(message.get("Subject", "")),
        "from": str(message.get("From", "")),
        "to": str(message.get("To", "")),
        "cc": str(message.get("Cc", "")),
        "date": _date(message),
        "attachments": [part.get_filename() or "" for part in message.iter_attachments()],
    }


def _date(message: EmailMessage) -> str | None:
    """ISO 8601, None where there is none that can be read."""
    try:
        found: datetime = parsedate_to_datetime(str(message["Date"]))
    except (TypeError, ValueError):
        return None
    return found.isoformat()


def _body(message: EmailMessage) -> str:
    part = message.get_body(preferencelist=("plain", "html"))
    if part is None:
        raise Unreadable("the e-mail holds no text")
    content = _content(part)
    if part.get_content_subtype() == "html":
        text = str(html.read(content)["text"])
    else:
        text = content if isinstance(content, str) else _guessed(content)
    if not text.strip():
        raise Unreadable("the e-mail holds no text")
    return text


def _content(part: MIMEPart) -> str | bytes:
    """Text where the mail tells the encoding, else bytes: then the page may tell it."""
    raw = part.get_payload(decode=True)
    tells = part.get_content_charset() is not None
    return raw if isinstance(raw, bytes) and not tells else str(part.get_content())


def _guessed(raw: bytes) -> str:
    """A text that does not tell its encoding, as mail programs show it."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("windows-1252", errors="replace")


__all__ = ["read_mailbox", "read_message"]
