"""What a preset may add to every call, headers and fields of the body: nothing that is a key, which never stands in a
file, and nothing that each call says itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from carrara.engines.errors import LoadingError

_SECRET = re.compile(
    r"(^|[-_.])(authorization|cookies?|passw(or)?d|passphrase|secret|credentials?|bearer|jwt)([-_.]|$)"
    r"|(^|[-_.])(api|access|auth|subscription|secret|virtual|private|service|client|account|master|license)?[-_.]?key$"
    r"|(api|access|auth|secret|session|refresh|id|bearer|csrf|security|private)[-_.]?token$"
    r"|^(x[-_.])?(auth|token)$",
    re.I,
)
_FREE = re.compile(r"(cache|idempotency|routing|partition|sort)[-_.]?key$", re.I)
"""Keys that open nothing, such as OpenAI's `prompt_cache_key`."""

_OF_THE_CALL: Mapping[str, str] = {
    "model": "`model` of the engine names it",
    "messages": "the step's prompt is sent",
    "prompt": "the step's prompt is sent",
    "contents": "the step's prompt is sent",
    "max_tokens": "`max_tokens` of a step bounds its answer",
    "max_completion_tokens": "`max_tokens` of a step bounds its answer",
    "stream": "`stream` of the engine switches it",
}
"""Fields of a body that each call fills, by what does."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t -~]*")
"""The characters of RFC 9110, section 5, less those beyond ASCII, which servers read differently."""


def read_headers(found: Mapping[str, Any], where: str) -> dict[str, str]:
    """The headers of a preset; `where` names their source in errors.

    Raises:
        LoadingError: one holds a key, or is no header.
    """
    for name, value in found.items():
        if is_secret(name):
            raise key_in_file(where, name)
        if not isinstance(value, str):
            raise LoadingError(
                f"{where}: headers: {name} takes a string, not {type(value).__name__}"
            )
        if not _HEADER_NAME.fullmatch(name):
            raise LoadingError(
                f"{where}: headers: {name!r} is no name of a header, which has no spaces"
            )
        if not _HEADER_VALUE.fullmatch(value):
            raise LoadingError(
                f"{where}: headers: {name}: the value of a header is one line of plain ASCII"
            )
    return dict(found)


def read_body(found: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields that a preset adds to the body.

    Raises:
        LoadingError: one holds a key, at whatever depth, or is filled by each call.
    """
    for name, filled in _OF_THE_CALL.items():
        if name in found:
            raise LoadingError(f"{where}: body: {name}: each call says that itself: {filled}")
    for name in _names(found):
        if is_secret(name):
            raise LoadingError(
                f"{where}: body: {name}: a key does not belong into a file; name a variable with key_env, whose key "
                "goes out in a header"
            )
    return dict(found)


def is_secret(name: str) -> bool:
    """Whether a header or a field of this name holds a key, a password or the like."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    return bool(_SECRET.search(words)) and not _FREE.search(words)


def key_in_file(where: str, header: str) -> LoadingError:
    """The error for a header that holds a key."""
    return LoadingError(
        f"{where}: headers: {header}: a key does not belong into a file; name a variable with key_env, and with "
        "key_header the header that carries it"
    )


def _names(found: Any) -> Iterator[str]:
    """The names of all fields, at any depth."""
    if isinstance(found, Mapping):
        for name, value in found.items():
            yield str(name)
            yield from _names(value)
    elif isinstance(found, list | tuple):
        for value in found:
            yield from _names(value)


__all__ = ["is_secret", "key_in_file", "read_body", "read_headers"]
