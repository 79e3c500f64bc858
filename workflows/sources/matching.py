"""The files that a glob means."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from carrara.workflows.sources.record import SourceError

_WILD = re.compile(r"[*?]")


def matching(source: str, folder: str = "") -> list[Path]:
    """The files that match, in the order of their paths, with whatever else matches and is no folder (see `oddity`).
    A relative glob is meant from `folder`, "" for the working folder.

    A name with brackets that is there as it is written means itself. `**` goes into each folder once, also where
    links lead to it, and in a circle.

    Raises:
        SourceError: nothing matches, or it is a folder.
    """
    whole = _as_glob(source.replace(os.sep, "/"), folder)
    found = [path for path in sorted(_found(whole)) if not os.path.isdir(path)]
    if found:
        return [Path(path) for path in found]
    if os.path.isdir(os.path.join(folder, source)):
        raise SourceError(f"{source} is a folder. Name its files, for example '{source}/*.txt'.")
    if not glob.has_magic(source):
        raise SourceError(f"there is no file {source!r}")
    raise SourceError(f"no file matches {source!r}. Quote globs, so that the shell leaves them.")


def oddity(path: Path) -> str | None:
    """Why what matches is no file that can be read, None for a file."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return f"a link to {os.readlink(path)!r}, which is not there" if path.is_symlink() else None
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if stat.S_ISREG(mode):
        return None
    kind = "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
    return f"{kind}, not a file; JSON lines of standard input are read from '-'"


def _as_glob(source: str, folder: str) -> str:
    """The glob from the working folder, with `[` escaped in names that are there."""
    made = glob.escape(os.path.join(folder, "")) if folder and not os.path.isabs(source) else ""
    here = "" if not made else os.path.join(folder, "")
    for name in re.split(r"(/+)", source):
        here += name
        is_name = "[" in name and not _WILD.search(name)
        made += glob.escape(name) if is_name and os.path.lexists(here) else name
    return made


def _found(whole: str) -> set[str]:
    """What matches, without hidden names."""
    names = whole.split("/")
    if "**" not in names:
        return set(glob.glob(whole))
    place = names.index("**")
    rest = "/".join(name for name in names[place + 1 :]) or "*"
    head = "/".join(names[:place])
    bases = [""] if not place else glob.glob(f"{head}/")
    return {
        path
        for base in bases
        for folder in _folders(base)
        for path in _found(glob.escape(folder) + rest)
    }


def _folders(base: str) -> Iterator[str]:
    """The folder `base` and those in it, each once, with "/" at the end; those that are reached by links alone last."""
    seen: set[str] = set()
    open_, linked = [base], list[str]()
    while open_ or linked:
        folder = open_.pop() if open_ else linked.pop(0)
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        yield folder
        try:
            with os.scandir(folder or ".") as entries:
                inner = sorted(
                    (e for e in entries if e.is_dir() and not e.name.startswith(".")),
                    key=lambda entry: entry.name,
                )
        except OSError:
            continue
        for entry in inner:
            (linked if entry.is_symlink() else open_).append(f"{folder}{entry.name}/")


__all__ = ["matching", "oddity"]
