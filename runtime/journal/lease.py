"""Who runs a run: a row with process and heartbeat, so that no two processes run the same run at once."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

BEAT_S = 15.0
STALE_S = 60.0
"""A holder on another machine is taken for dead after this long without a heartbeat."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process. `born` tells it from a later one with the same pid; "" where that cannot be found out."""

    host: str
    pid: int
    born: str

    def is_alive(self, *, beat_at: float, now: float) -> bool:
        """Whether it may still run. On this machine that is looked up, elsewhere the heartbeat tells."""
        if self.host != socket.gethostname():
            return now - beat_at < STALE_S
        if self.born:
            return born(self.pid) == self.born
        return _exists(self.pid)


def this_process() -> Holder:
    return _holder(os.getpid())


@lru_cache(maxsize=4)  # by pid: a forked child is another process
def _holder(pid: int) -> Holder:
    return Holder(socket.gethostname(), pid, born(pid))


def born(pid: int) -> str:
    """Boot and start time of a process, "" if there is none or the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return "" if fields[0] == "Z" else f"{boot}:{fields[19]}"


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
