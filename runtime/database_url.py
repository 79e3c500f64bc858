"""URLs of databases: as a driver takes them, as messages show them, as a journal keeps them (without a password)."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, unquote_plus

INSTALL = "pip install 'carrara[sql]'"

_DATABASE = re.compile(r"^(sqlite|duckdb|postgres(?:ql)?)(\+\w+)?:/")
_SERVER = re.compile(r"^postgres(?:ql)?(\+\w+)?://")
# A user's name, and what stands between it and the last @ before the host. Without an @ it may be a port, which is a
# number, or the beginning of a password that a # has cut: then nobody knows where it ends.
_GIVEN = re.compile(r"^([\w+]+://[^:/?#@]*):([^#]*)@(?=[^@#]*(?:#|$))")
_CUT = re.compile(r"^([\w+]+://[^:/?#@]*):(?!\d*(?:[/?#,]|$)).*")
_OPTION = re.compile(r"(?<=[?&])((?:ssl)?password)=([^&#]*)")
_OPTION_AND_MARK = re.compile(r"[?&](?:ssl)?password=[^&#]*")
_HIDDEN = "***"


def is_server(place: str) -> bool:
    """Whether it is the URL of a PostgreSQL server."""
    return bool(_SERVER.match(place))


def driver_url(url: str) -> str:
    """The URL with the driver that we install, where it names none."""
    scheme, rest = url.split(":", 1)
    return f"postgresql+psycopg:{rest}" if scheme in ("postgres", "postgresql") else url


def shown_url(url: str) -> str:
    """The URL for messages: where a password stands, it has asterisks."""
    if not _DATABASE.match(url):
        return url
    found = _GIVEN.sub(rf"\1:{_HIDDEN}@", url)
    if found == url:
        found = _CUT.sub(rf"\1:{_HIDDEN}", url)
    return _OPTION.sub(rf"\1={_HIDDEN}", found)


def without_password(url: str) -> str:
    """The URL as it is written down: user, host, database and options, no password. What is no URL of a database stays
    as it is."""
    if not _SERVER.match(url):
        return url
    found = _GIVEN.sub(r"\1@", url)
    if found == url:
        found = _CUT.sub(r"\1", url)
    head, mark, what = found.partition("#")
    head = _OPTION_AND_MARK.sub("", head)
    if "?" not in head:
        head = head.replace("&", "?", 1)
    return head + mark + what


def said(error: Any, *urls: str) -> str:
    """What the database said, on one line, without the passwords of `urls`."""
    text = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
    for url in urls:
        for secret in _secrets(url):
            text = text.replace(secret, _HIDDEN)
    return text


def _secrets(url: str) -> set[str]:
    if not _DATABASE.match(url):
        return set()
    given = [found[2] for found in [_GIVEN.match(url)] if found]
    given += [found[1] for found in _OPTION.findall(url)]
    return {form for each in given for form in (each, unquote(each), unquote_plus(each)) if form}


__all__ = ["INSTALL", "driver_url", "is_server", "said", "shown_url", "without_password"]
