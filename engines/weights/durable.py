"""Writing that survives: what is on disk under its final name is whole, and one process writes at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Say = Callable[[str], None]


@contextmanager
def exclusive(path: Path, say: Say) -> Iterator[None]:
    """Hold the lock file `path`; waits while another process or thread does, and says so.

    The kernel drops the lock when its holder dies, however it dies: there is no stale lock to detect. The
    file stays, because removing it would let a third process lock another file of the same name.
    """
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            say(
                f"waiting for process {file.read().strip() or '?'}, which is at work on the same model"
            )
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def put_in_place(made: Path, final: Path) -> None:
    """Make the finished folder `made` durable and give it the name `final`, in place of what is there."""
    for path in made.iterdir():
        sync_file(path)
    sync_file(made)
    old = made.with_suffix(".old")
    if final.exists():
        final.rename(old)
    made.rename(final)
    sync_file(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def sync_file(path: Path) -> None:
    """Wait until the file or folder `path` is on the disk itself."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
