"""The command line on a terminal: what is drawn there never mixes with results, and fits its width."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from typing import Any

import pytest


def on_terminal(shell: Any, *words: str, columns: int = 80) -> tuple[int, str, str]:
    """Exit code, standard output (a pipe), and what the terminal on standard error was sent."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {k: v for k, v in shell.environment.items() if k != "COLUMNS"}
    child = subprocess.Popen(
        [sys.executable, "-m", "carrara", *words],
        cwd=shell.folder,
        env={**environment, "TERM": "xterm-256color"},
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    drawn = b""
    try:
        while some := os.read(ours, 65536):
            drawn += some
    except OSError:  # Linux says EIO where the other side has gone
        pass
    finally:
        os.close(ours)
    out, _ = child.communicate(timeout=60)
    return child.returncode, out.decode(), drawn.decode()


def test_a_result_goes_to_a_file_while_progress_is_on_the_terminal(shell: Any) -> None:
    code, out, drawn = on_terminal(shell, "run", "flows.py:quadruple", "--set", "number=4")
    assert (code, out) == (0, "16\n")
    assert "done" in drawn
    assert "16" not in drawn.split("●")[1].splitlines()


@pytest.mark.parametrize("columns", [80, 100])
def test_the_report_fits_the_terminal(shell: Any, recorded: Any, columns: int) -> None:
    cassette = recorded("greet.yaml", {"name": "Ada"})
    words = ("run", "greet.yaml", "--set", "name=Ada", "--replay", str(cassette), "-o", "out")
    code, _, drawn = on_terminal(shell, *words, columns=columns)
    assert code == 0
    report = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn).partition("●")[2]
    lines = report.replace("\r", "").splitlines()
    heads = [line for line in lines if line.startswith("step ")]
    assert len(heads) == 2
    tables = lines[lines.index(heads[0]) : lines.index(heads[1]) + 3]
    assert max(map(len, tables)) <= columns
    assert sum(line.startswith("greeting ") for line in tables) == 2


def test_the_live_display_puts_the_terminal_in_order(shell: Any) -> None:
    _, _, drawn = on_terminal(shell, "run", "flows.py:inverse", "--set", "number=0")
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h")
    assert drawn.count("error: ") == 1


def test_watched_answers_are_drawn_on_the_terminal_and_told_elsewhere(
    shell: Any, recorded: Any
) -> None:
    cassette = recorded("greet.yaml", {"name": "Ada"})
    words = ("run", "greet.yaml", "--set", "name=Ada", "--replay", str(cassette), "--watch")
    code, _, drawn = on_terminal(shell, *words)
    assert code == 0
    assert "greeting" in drawn
    told = shell(*words)
    assert told.code == 0
    assert any(" done: " in line for line in told.err.splitlines())
    assert "give one of them" in shell(*words, "--quiet").err
