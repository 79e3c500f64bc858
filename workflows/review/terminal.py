"""A review on a terminal: keys from standard input, the screen on standard output."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from carrara.workflows.review.decisions import held_decisions
from carrara.workflows.review.desk import Desk
from carrara.workflows.review.rows import ReviewError, read_review
from carrara.workflows.review.screen import screen
from carrara.workflows.review.validating import Validators
from carrara.workflows.target import load_workflow

_ESCAPE_S = 0.05
"""A byte 27 with nothing behind it for so long is the key Escape, not the beginning of another key."""

_NAMED = {
    "\r": "enter", "\n": "enter", "\t": "tab", "\x7f": "backspace", "\x08": "backspace", "\x15": "clear",
    "\x01": "home", "\x05": "end",
}  # fmt: skip
_SEQUENCES = {
    "[A": "up", "[B": "down", "[C": "right", "[D": "left", "OA": "up", "OB": "down", "OC": "right", "OD": "left",
    "[H": "home", "[F": "end", "OH": "home", "OF": "end",
}  # fmt: skip


def review(path: Path, workflow: str | None = None) -> Desk:
    """Let somebody at this terminal decide on the rows of a review file; the desk as it was left. The validators of
    the `workflow`, a target, hold for edited rows, too.

    Each decision is on the disk before the next row is shown. Ctrl-C leaves as `q` does. A file has one review at a
    time.

    Raises:
        ReviewError: the file cannot be read, or there is no terminal. OutputError: a decision cannot be written, or
            (PlaceError) somebody else reviews the file now.
        DefinitionError: the workflow cannot be loaded.
    """
    rows = read_review(path)
    validators = None if workflow is None else Validators(load_workflow(workflow))
    with held_decisions(path, rows) as decisions:
        desk = Desk(rows, decisions, validators)
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise ReviewError(
                "a review needs a terminal: standard input or output is none. Call it without pipes, from a terminal"
            )
        _sit_at(desk, path.name)
    return desk


def _sit_at(desk: Desk, name: str) -> None:
    """Show the desk, and take keys, until the review is left."""
    console = Console()
    keys = Keys(sys.stdin.fileno())
    with _raw(sys.stdin.fileno()), console.screen(hide_cursor=True) as shown:
        while not desk.ended:
            shown.update(screen(desk, name, console.width, console.height))
            try:
                desk.press(keys.read())
            except KeyboardInterrupt:
                break


class Keys:
    """Keys of a terminal, one by one. What is no key that the desk knows is ""."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._bytes = b""

    def read(self) -> str:
        """The next key; "q" once the terminal has gone."""
        letter = self._letter()
        if letter is None:
            return "q"
        if letter != "\x1b":
            return _NAMED.get(letter, letter)
        if not self._comes():
            return "escape"
        sequence = self._letter() or ""
        while sequence in ("[", "O") or (
            sequence[1:] and not sequence[-1].isalpha() and sequence[-1] != "~"
        ):
            sequence += self._letter() or "~"
        return _SEQUENCES.get(sequence, "")

    def _letter(self) -> str | None:
        while True:
            for size in range(1, min(4, len(self._bytes)) + 1):
                try:
                    letter = self._bytes[:size].decode()
                except UnicodeDecodeError:
                    continue
                self._bytes = self._bytes[size:]
                return letter
            if len(self._bytes) >= 4:  # not UTF-8
                self._bytes = self._bytes[1:]
                continue
            try:
                more = os.read(self._file, 1024)
            except OSError:  # Linux says EIO where the other side has gone
                return None
            if not more:
                return None
            self._bytes += more

    def _comes(self) -> bool:
        return bool(self._bytes or select.select([self._file], [], [], _ESCAPE_S)[0])


@contextmanager
def _raw(file: int) -> Iterator[None]:
    """Keys come at once and are not echoed; Ctrl-C stays what it is."""
    import termios
    import tty

    before = termios.tcgetattr(file)
    tty.setcbreak(file)
    try:
        yield
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)


__all__ = ["Keys", "review"]
