"""Where the values of a JSON text stand in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\],:]|[^\s{}\[\],:"]++')
Path = tuple[Any, ...]


def value_spans(text: str) -> Iterator[tuple[int, int, Path]]:
    """Start, end and path of each value of a valid JSON text, in the order in which they end."""
    steps: list[Any] = []  # a number in a list, a key in an object, None where no key was read yet
    opened: list[int] = []
    for match in _TOKEN.finditer(text):
        token = match.group()
        c = token[0]
        if c in "{[":
            opened.append(match.start())
            steps.append(None if c == "{" else 0)
        elif c in "}]":
            steps.pop()
            yield opened.pop(), match.end(), tuple(steps)
        elif c == ",":
            steps[-1] = None if text[opened[-1]] == "{" else steps[-1] + 1
        elif c == ":":
            continue
        elif c == '"' and opened and text[opened[-1]] == "{" and steps[-1] is None:
            steps[-1] = json.loads(token)
        else:
            yield match.start(), match.end(), tuple(steps)


__all__ = ["Path", "value_spans"]
