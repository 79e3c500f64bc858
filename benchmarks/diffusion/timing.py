"""Clocks, limits and the machine: what all parts of the benchmark share.

Every time is taken twice: by the wall, and as processor time of the processes that decode. With one thread each,
processor time is what a quiet machine would take, also while others keep it busy.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "numpy", "xllamacpp", "vllm", "gguf")


@dataclass(frozen=True, slots=True)
class Taken:
    """Seconds by the wall and of the processor."""

    wall_s: float
    cpu_s: float

    @classmethod
    def by(cls, work: Callable[[], Any], device: torch.device) -> Taken:
        """How long `work` takes, until the device has done it."""
        wait(device)
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        wait(device)
        return cls(time.perf_counter() - wall, time.process_time() - cpu)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def best(found: list[Taken], per: float = 1.0) -> dict[str, float]:
    """The shortest of each clock, and the median by the wall, in milliseconds for each of `per`."""
    return {
        "wall_ms": round(min(t.wall_s for t in found) * 1000 / per, 3),
        "median_wall_ms": round(statistics.median(t.wall_s for t in found) * 1000 / per, 3),
        "cpu_ms": round(min(t.cpu_s for t in found) * 1000 / per, 3),
    }


@dataclass(slots=True)
class Budget:
    """Seconds that one part may take: what there is no time for is left out, and calls get a share of what is left."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    begun: float = field(init=False)
    left_out: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.begun = self.clock()

    def restart(self) -> None:
        """Count from now: what went before was making ready."""
        self.begun = self.clock()

    @property
    def left_s(self) -> float:
        return max(0.0, self.begun + self.seconds - self.clock())

    @property
    def is_spent(self) -> bool:
        return self.left_s <= 0

    def share_s(self, takers: int) -> float:
        """What the next of so many may take, so that each of them gets as much."""
        return self.left_s / takers

    def allows(self, what: str) -> bool:
        """Whether there is time for `what`; it is noted if not."""
        if self.is_spent:
            self.left_out.append(what)
        return not self.is_spent


@dataclass(slots=True)
class Results:
    """What has been found so far; the file is replaced as a whole whenever there is more, so that a run that is cut off
    leaves it."""

    path: Path | None
    found: dict[str, Any]

    @classmethod
    def at(cls, path: Path | None) -> Results:
        """Go on with the file at `path`: parts that are measured anew replace the old ones."""
        if path is None or not path.exists():
            return cls(path, {})
        return cls(path, json.loads(path.read_text(encoding="utf-8")))

    def put(self, part: str, value: Mapping[str, Any]) -> None:
        self.found[part] = dict(value)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            made = self.path.with_suffix(".part")
            made.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")
            made.rename(self.path)


def machine(device: torch.device, seed: int) -> dict[str, Any]:
    """Device, versions and load. A load above the number of cores: quote processor time only."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {
        "device": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "seed": seed,
        "versions": {"python": platform.python_version(), **versions()},
    }


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            found = next(line for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
    flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    known = [
        n for n in ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "amx_int8") if flags.get(n)
    ]
    return f"{found.partition(':')[2].strip()} ({', '.join(known)})"
