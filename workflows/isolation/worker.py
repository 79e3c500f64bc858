"""The other process: loads one function and calls it with what it is sent, one call after another.

It ends with the process that started it, also in the middle of a call, and with it what the function has started. A
call that ran into a file number that is none (EBADF) may have closed what is another's: its process is not used again.
"""

from __future__ import annotations

import errno
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


def _is_broken(error: BaseException | None) -> bool:
    """Whether no other call should come to this process."""
    while error is not None:
        if isinstance(error, OSError) and error.errno == errno.EBADF:
            return True
        error = error.__cause__ or error.__context__
    return False


def _answer(link: socket.socket, work: Callable[[], Any]) -> None:
    try:
        answer: dict[str, Any] = {"value": encode(work())}
    except BaseException as error:  # also sys.exit: it ends the call, not the process
        answer = {"error": type(error).__name__, "message": str(error), "broken": _is_broken(error)}
    link.sendall(packed(json.dumps(answer)))


def _listen(link: socket.socket, asked: SimpleQueue[str]) -> None:
    try:
        with link.makefile("rb") as stream:
            while True:
                head = stream.read(LENGTH_BYTES)
                raw = stream.read(length(head)) if len(head) == LENGTH_BYTES else b""
                if not raw:
                    break
                asked.put(text_of(raw))
    finally:
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(0)


__all__ = ["main"]
