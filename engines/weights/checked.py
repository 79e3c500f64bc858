"""Which files of a model folder were found to be what its manifest says, so that each is hashed once.

A file is known again by size, inode and both times: whoever writes into it, or puts another in its place, changes one
of them, also where the time of the last change is set back. Only a disk that rots silently leaves them; `carrara models
verify` hashes always.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

FILE = "checked.json"
_TICK_NS = 100_000_000  # file systems tell times apart that are some milliseconds apart


def identity(path: Path) -> tuple[str, bool]:
    """What changes when the file does, and whether that is so: not for one that was written just now.

    Raises:
        OSError: the file cannot be read.
    """
    found = path.stat()
    settled = time.time_ns() - found.st_ctime_ns >= _TICK_NS
    return f"{found.st_size} {found.st_ino} {found.st_mtime_ns} {found.st_ctime_ns}", settled


def read(folder: Path) -> dict[str, str]:
    """What was remembered of the folder's files by name, {} where that cannot be told."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remember(folder: Path, found: Mapping[str, str]) -> None:
    """Write it down. Where the folder cannot be written, the files are hashed again the next time."""
    fresh = folder / f".{FILE}.{os.getpid()}"
    with suppress(OSError):
        try:
            fresh.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
            fresh.replace(folder / FILE)
        finally:
            fresh.unlink(missing_ok=True)
