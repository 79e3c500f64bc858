"""The place of an output held by one job, or one review, at a time: a second one is refused, whatever kind of sink it
is. Shards of a job hold a table together, each its own part of it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from errno import EAGAIN, EWOULDBLOCK
from pathlib import Path

from carrara.workflows.places import PlaceError


@dataclass(frozen=True, slots=True)
class Lock:
    """The hidden files that stand for an output: `whole` for all of it, `part` for what one shard writes there, None
    where a job writes all of it."""

    whole: Path
    part: Path | None = None


def lock_of(file: Path, table: str = "", part: str = "") -> Lock:
    """The lock of an output, by whatever name its file is reached. `part` names what a shard writes."""
    real = Path(os.path.realpath(file))
    name = f"{real.name}.{table.lower().removeprefix('main.')}" if table else real.name
    whole = real.with_name(f".{name}.lock")
    return Lock(whole, real.with_name(f".{name}.{part}.lock") if part else None)


@contextmanager
def held(lock: Lock | None, shown: str, refusal: str = "") -> Iterator[None]:
    """Keep the place to this job, or to this shard and others. The system gives it back when the process ends, however
    it ends: a file that a killed one has left keeps nobody out. Without a `lock` (a pipe, a server) nothing is held.
    `refusal` tells that somebody else has it, "" where it is a job that writes there.

    Raises:
        PlaceError: another one has it, or the file cannot be made.
    """
    if lock is None:
        yield
        return
    with ExitStack() as stack:
        told = refusal or taken(shown)
        stack.enter_context(_held(lock.whole, shown, told, shared=lock.part is not None))
        if lock.part is not None:
            stack.enter_context(_held(lock.part, shown, told))
        yield


@contextmanager
def _held(lock: Path, shown: str, told: str, *, shared: bool = False) -> Iterator[None]:
    """Hold one file, `shared` with all who hold it so."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = _taken(lock, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    except OSError as error:
        raise PlaceError(f"cannot write {shown}: {error.strerror or error}") from error
    if file is None:
        raise PlaceError(told)
    try:
        yield
    finally:
        with suppress(OSError):
            if shared:  # whoever holds it beside us keeps the file: to them it is the lock
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(lock, file):  # else its folder was removed, and made by somebody else
                lock.unlink()
        os.close(file)


def taken(shown: str) -> str:
    """What is told where another job has the place."""
    return f"{shown}: another job is writing there now. Wait until it has ended, or name another --output."


def _taken(lock: Path, how: int) -> int | None:
    """The lock file, locked; None where another one has it. Who held it last may have removed it between our opening
    and our locking it: then its name stands for another file, which is the one to lock."""
    while True:
        file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            if error.errno in (EAGAIN, EWOULDBLOCK):
                return None
            raise
        if _is_at(lock, file):
            return file
        os.close(file)


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except OSError:
        return False


__all__ = ["Lock", "held", "lock_of", "taken"]
