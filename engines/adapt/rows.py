"""Labelled rows to train on: JSON lines (.jsonl, or .jsonl.xz) with a prompt, the right answer and its contract."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, get_args

from carrara.engines.contract import Contract, Text, from_data
from carrara.engines.errors import CarraraError, LoadingError
from carrara.engines.request import Message, Role

KEYS = frozenset(("prompt", "messages", "response", "contract", "task", "id", "src", "weight"))

_ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Row:
    """One example. `value` is the answer as the contract reads it, the text itself under `Text`.

    `task` groups rows in evaluations. `where` names file and line for errors.
    """

    messages: tuple[Message, ...]
    contract: Contract
    value: Any
    task: str
    where: str


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, one at a time.

    A row has `prompt` (a string) or `messages` (a list of {"role", "content"}), `response` (a string, or the value
    itself), and may have `contract` (as `contract.to_data` writes it; without one the answer is free text) and
    `task`. `id`, `src` and `weight` are allowed and not used; in a row with `gold` so is everything else,
    and one without `response` is passed over.

    Raises:
        LoadingError: names file and line, and what is wrong there.
    """
    empty = True
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, 1):
                where = f"{path}:{number}"
                row = _row(_text(line, where), where) if line.strip() else None
                if row is not None:
                    empty = False
                    yield row
    except (OSError, lzma.LZMAError, EOFError) as error:
        raise LoadingError(f"{path}: cannot be read: {error}") from error
    if empty:
        raise LoadingError(f"{path}: holds no rows")


def _opened(path: Path) -> IO[bytes]:
    return lzma.open(path, "rb") if path.suffix == ".xz" else path.open("rb")


def _text(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = line[error.start]
        raise LoadingError(
            f"{where}: not UTF-8: byte 0x{bad:02x} at position {error.start + 1} of the line. Save the file as UTF-8."
        ) from error


def _row(line: str, where: str) -> Row | None:
    """The row; None for a labelled one that is not the answer of one model."""
    try:
        found = json.loads(line)
    except ValueError as error:
        raise LoadingError(f"{where}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise LoadingError(f"{where}: a row is a JSON object, not {type(found).__name__}")
    if "gold" in found:  # a labelled row, as evaluations take it
        if "response" not in found:
            return None
        found = {key: part for key, part in found.items() if key in KEYS}
    if unknown := sorted(found.keys() - KEYS):
        raise LoadingError(f"{where}: unknown keys {unknown}; known are {', '.join(sorted(KEYS))}")
    if "response" not in found:
        raise LoadingError(f"{where}: has no 'response'")
    try:
        contract = from_data(found["contract"]) if found.get("contract") else Text()
        value = _value(contract, found["response"])
    except (CarraraError, TypeError) as error:
        raise LoadingError(f"{where}: {error}") from error
    return Row(_messages(found, where), contract, value, str(found.get("task", "")), where)


def _value(contract: Contract, response: Any) -> Any:
    if isinstance(contract, Text):
        return response if isinstance(response, str) else json.dumps(response, ensure_ascii=False)
    return contract.parse(response) if isinstance(response, str) else response


def _messages(found: Mapping[str, Any], where: str) -> tuple[Message, ...]:
    if ("prompt" in found) == ("messages" in found):
        raise LoadingError(f"{where}: a row has either 'prompt' or 'messages'")
    if "prompt" in found:
        if not isinstance(found["prompt"], str):
            raise LoadingError(f"{where}: 'prompt' is not a string")
        return (Message("user", found["prompt"]),)
    try:
        messages = tuple(Message(m["role"], m["content"]) for m in found["messages"])
    except (TypeError, KeyError) as error:
        raise LoadingError(
            f"{where}: 'messages' is a list of objects with 'role' and 'content'"
        ) from error
    for number, message in enumerate(messages, 1):
        if message.role not in _ROLES:
            raise LoadingError(
                f"{where}: message {number} has the role {message.role!r}; use {', '.join(_ROLES)}"
            )
        if not isinstance(message.content, str):
            raise LoadingError(f"{where}: the content of message {number} is not a string")
    if not messages:
        raise LoadingError(f"{where}: 'messages' is empty")
    return messages
