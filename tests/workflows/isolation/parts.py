"""Functions that another process is to find, and to die of."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
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
        case "child":
            return Pair(what, _sleeper())
        case "child and exit":
            print(_sleeper(), file=open("child", "w"), flush=True)  # noqa: SIM115 - it ends here
            os._exit(3)
        case "child and hang":
            print(_sleeper(), file=open("child", "w"), flush=True)  # noqa: SIM115 - it ends here
            threading.Event().wait()
        case "closed":
            os.close(12345)
        case "leave":
            raise SystemExit("enough")
    return Pair(what, os.getpid())


def _sleeper() -> int:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid


def swap(pair: Pair) -> Pair:
    return Pair(pair.text[::-1], pair.process)
