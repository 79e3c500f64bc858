"""Functions that another process is to find, and to die of."""

from __future__ import annotations

import ctypes
import os
import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    text: str
    process: int


class OwnError(Exception):
    pass


def behave(what: str) -> Pair:
    match what:
        case "exit":
            os._exit(3)
        case "fault":
            ctypes.string_at(0)
        case "hang":
            threading.Event().wait()
        case "raise":
            raise ValueError("no such thing")
        case "own":
            raise OwnError("mine")
        case "leave":
            raise SystemExit("enough")
    return Pair(what, os.getpid())


def swap(pair: Pair) -> Pair:
    return Pair(pair.text[::-1], pair.process)
