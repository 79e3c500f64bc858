"""The other process: loads one function and calls it with what it is sent, one call after another.

It ends with the process that started it, also in the middle of a call.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any

from carrara.runtime.codec import decode, encode
from carrara.workflows.isolation.place import Place
from carrara.workflows.isolation.wire import LENGTH_BYTES, length, packed, text_of


def main(file: int) -> None:
    """Serve the socket with this file number until the other side closes it."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for the first process, which ends this one
    link = socket.socket(fileno=file)
    asked: SimpleQueue[str] = SimpleQueue()
    Thread(target=_listen, args=(link, asked), daemon=True).start()
    place = Place(**json.loads(asked.get()))
    found: list[Callable[..., Any]] = []
    _answer(link, lambda: found.append(place.load()))
    while True:
        _answer(link, partial(_called, found, asked.get()))


def _called(found: list[Callable[..., Any]], text: str) -> Any:
    args, kwargs = decode(text)
    return found[0](*args, **kwargs)


def _answer(link: socket.socket, work: Callable[[], Any]) -> None:
    try:
        answer = {"value": encode(work())}
    except BaseException as error:  # also sys.exit: it ends the call, not the process
        answer = {"error": type(error).__name__, "message": str(error)}
    link.sendall(packed(json.dumps(answer)))


def _listen(link: socket.socket, asked: SimpleQueue[str]) -> None:
    with link.makefile("rb") as stream:
        while True:
            head = stream.read(LENGTH_BYTES)
            raw = stream.read(length(head)) if len(head) == LENGTH_BYTES else b""
            if not raw:
                os._exit(0)
            asked.put(text_of(raw))


__all__ = ["main"]
