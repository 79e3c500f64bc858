"""The screen fits its terminal, marks the spans, and lets no document write to the terminal."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from carrara.workflows.review.decisions import Decisions
from carrara.workflows.review.desk import Desk
from carrara.workflows.review.rows import read_review
from carrara.workflows.review.screen import screen

Files = Callable[..., Path]


def desk_of(path: Path) -> Desk:
    rows = read_review(path)
    return Desk(rows, Decisions(path, rows))


def drawn(desk: Desk, width: int = 110, height: int = 30, color: bool = False) -> list[str]:
    out = io.StringIO()
    system = "truecolor" if color else None
    console = Console(
        file=out, width=width, height=height, force_terminal=color, color_system=system
    )
    console.print(screen(desk, "out.review.jsonl", width, height), end="")
    return out.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(200, 50), (110, 24), (96, 16), (80, 24), (60, 16)])
def test_it_fits(review_file: Files, width: int, height: int) -> None:
    text = "word " * 2000 + "\n" * 50
    desk = desk_of(review_file("a", "b", inputs={"text": text}))
    for keys in ((), ("e", *"x" * 200), ("enter",)):
        for key in keys:
            desk.press(key)
        lines = drawn(desk, width, height)
        assert len(lines) <= height
        assert max(map(len, lines)) <= width
        assert any("accept" in line or "take" in line for line in lines)


def test_a_small_terminal_is_told_so(review_file: Files) -> None:
    assert "60 columns" in "".join(drawn(desk_of(review_file("a")), 40, 10))


def test_the_chosen_span_is_scrolled_to_and_marked(review_file: Files) -> None:
    text = "\n".join(f"line {n}" for n in range(500)) + "\nTOTAL 1,200.50\n"
    start = text.index("1,200.50")
    facts = {"confidence": 0.3, "engine": "ar", "repaired": ["json.comma"], "found": "number"}
    fields = {"/answer/total": {**facts, "span": [start, start + 8]}}
    desk = desk_of(review_file("a", inputs={"text": text}, fields=fields))
    lines = drawn(desk)
    assert any("TOTAL 1,200.50" in line for line in lines)
    assert any("by ar" in line and "json.comma" in line for line in lines)
    assert any("another form of the number" in line for line in lines)
    marked = next(line for line in drawn(desk, color=True) if "TOTAL" in line)
    assert "\x1b[1;30;48;2;125;180;255m1,200.50" in marked


def test_a_document_cannot_move_the_cursor(review_file: Files) -> None:
    evil = "\x1b[2J\x1b]0;title\x07\r\x9b5A[red]text"
    row = {"answer": {"shop": evil, "total": 1.0}}
    desk = desk_of(review_file("a", inputs={"text": evil}, row=row))
    desk.press("up")
    desk.press("e")
    shown = "\n".join(drawn(desk))
    assert not set("\x1b\x07\r\x9b") & set(shown)
    assert "[red]text" in shown
