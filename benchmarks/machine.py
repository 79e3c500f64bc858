"""What the numbers of a benchmark were taken on and with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any


def machine(threads: int) -> dict[str, Any]:
    """The processor, its cores, `threads` of torch. A `load` above the number of cores: the times are not worth
    quoting."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load": round(os.getloadavg()[0], 2),
    }


def versions(*packages: str) -> dict[str, str | None]:
    """Of Python and of these packages, None for one that is not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in packages}}


def processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            found = next(line for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
    return found.partition(":")[2].strip()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
