"""Canvases on the screen: what is final is bright, what is open is noise, and nothing of it commands the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from carrara.engines.request import Progress, Span
from carrara.runtime.canvas_view import GUESSED, PINNED, SURE, canvas, window
from carrara.runtime.events import (
    DraftShown,
    RunFinished,
    RunStarted,
    StepFailed,
    StepFinished,
    StepStarted,
)
from carrara.runtime.watching import LiveCanvases, PlainCanvases, watching

HALF = Progress('{"a": "··x", "n": 4}', 0.6, 3, (Span(0, 7), Span(9, 10, 0.7), Span(10, 20)))
WHOLE = Progress('{"a": "abx", "n": 4}', 1.0, 4, (Span(0, 7), Span(7, 10, 0.95), Span(10, 20)))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(shown: LiveCanvases, width: int = 70, height: int = 24) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, color_system=None, force_terminal=True)
    console.print(shown.draw())
    return [line.rstrip() for line in out.getvalue().splitlines()]


def begun(steps: int = 1) -> LiveCanvases:
    shown = LiveCanvases(io.StringIO(), Clock())
    shown(RunStarted("r", 100.0, "book"))
    for i in range(steps):
        shown(StepStarted("r", 100.0, f"book/extract[{i}]", i))
    return shown


def styles(draft: Progress) -> dict[str, str]:
    text = canvas(draft)
    return {text.plain[span.start : span.end]: str(span.style) for span in text.spans}


def test_final_text_has_the_style_of_its_confidence_and_the_rest_is_noise() -> None:
    text = canvas(HALF)
    assert text.plain[:7] == '{"a": "'
    assert set(text.plain[7:9]) <= set("░▒▓")
    assert text.plain[9:] == 'x", "n": 4}'
    assert styles(HALF)["x"] == dict(SURE)[0.6]
    assert styles(HALF)['{"a": "'] == PINNED
    assert styles(WHOLE)["abx"] == dict(SURE)[0.9]


def test_noise_moves_from_pass_to_pass() -> None:
    seen = {canvas(Progress("·" * 20, 0.0, step)).plain for step in range(6)}
    assert len(seen) == 6


def test_a_guess_is_shown_as_one() -> None:
    draft = Progress("known guessed", 0.4, 2, (Span(0, 5, 0.99),))
    text = canvas(draft)
    assert text.plain == "known guessed"
    assert all(str(span.style) == GUESSED for span in text.spans[1:])


def test_text_cannot_command_the_terminal() -> None:
    evil = "a\x1b[2J\x1b]0;owned\x07b\x9bc\r\x08"
    assert "\x1b" not in canvas(Progress(evil)).plain
    out = io.StringIO()
    shown = PlainCanvases(out, Clock())
    shown(DraftShown("r", 100.0, "a", 1, Progress(evil)))
    assert not set(out.getvalue()) & set("\x1b\x07\x9b\x08\r")


def test_of_a_long_canvas_the_lines_around_the_first_open_place_are_shown() -> None:
    console = Console(file=io.StringIO(), width=20, force_terminal=True)
    text = "".join(f"line {n:03} of twenty." for n in range(50))
    settled = (Span(0, 500), Span(510, 950))
    lines = window(Progress(text, 0.9, 1, settled), console, 19, 4)
    assert len(lines) == 4
    assert any("line 026" in line.plain for line in lines)
    last = window(Progress(text, 1.0, 1), console, 19, 4)
    assert "line 049" in "".join(line.plain for line in last)


def test_the_screen_shows_the_run_and_its_canvases() -> None:
    shown = begun()
    shown(DraftShown("r", 101.0, "book/extract[0]", 0, HALF))
    head, blank, step, text = drawn(shown)
    assert head.startswith("book  ")
    assert "1 running" in head
    assert blank == ""
    assert step.startswith("◆ book/extract[0] ")
    assert step.endswith(" 60%  pass 3  0.70 sure")
    assert text.startswith('  │ {"a": "')
    shown(DraftShown("r", 102.0, "book/extract[0]", 0, WHOLE))
    shown(StepFinished("r", 103.0, "book/extract[0]", 0, 3.0))
    _, _, step, text = drawn(shown)
    assert step.startswith("✓ book/extract[0] ")
    assert step.endswith("4 passes  0.95 sure  3.0 s")
    assert text == '  │ {"a": "abx", "n": 4}'


@pytest.mark.parametrize("height", [8, 14, 24, 50])
def test_many_canvases_fit_the_terminal_those_at_work_first(height: int) -> None:
    shown = begun(40)
    long = Progress("word " * 400, 0.5, 2, (Span(0, 900, 0.8),))
    for i in range(40):
        shown(DraftShown("r", 101.0, f"book/extract[{i}]", i, long))
        if i != 5:
            shown(StepFinished("r", 101.0, f"book/extract[{i}]", i, 0.1))
    lines = drawn(shown, height=height)
    assert len(lines) < height
    assert any(line.startswith("◆ book/extract[5] ") for line in lines)
    assert all(len(line) <= 70 for line in lines)


def test_a_failed_step_is_marked_and_a_new_attempt_begins_anew() -> None:
    shown = begun()
    shown(DraftShown("r", 101.0, "book/extract[0]", 0, HALF))
    shown(StepFailed("r", 101.0, "book/extract[0]", 0, error="no", will_retry=True))
    assert drawn(shown)[2].startswith("✗")
    shown(DraftShown("r", 101.0, "book/extract[0]", 0, HALF))
    assert drawn(shown)[2].startswith("◆")


def test_off_a_terminal_each_step_says_a_line_a_second_and_one_at_its_end() -> None:
    out, clock = io.StringIO(), Clock()
    shown = PlainCanvases(out, clock)
    shown(RunStarted("r", 100.0, "book"))
    for _ in range(5):
        shown(DraftShown("r", clock.now, "book/a", 1, HALF))
        clock.now += 0.4
    shown(DraftShown("r", clock.now, "book/a", 1, WHOLE))
    shown(StepFinished("r", clock.now, "book/a", 1, 2.0))
    shown(RunFinished("r", clock.now, ok=True))
    lines = [line for line in out.getvalue().splitlines() if line.startswith("book/a ")]
    assert lines == [
        'book/a pass 3 60% 0.70 sure: {"a": "··x", "n": 4}',
        'book/a pass 3 60% 0.70 sure: {"a": "··x", "n": 4}',
        'book/a pass 4 done 0.95 sure: {"a": "abx", "n": 4}',
    ]


def test_the_display_suits_the_stream() -> None:
    assert isinstance(watching(io.StringIO()), PlainCanvases)
    assert isinstance(watching(Terminal()), LiveCanvases)
