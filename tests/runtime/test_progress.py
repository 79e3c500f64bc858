"""Progress lines come at most once a second, by a clock that the test turns."""

import io

from rich.console import Console

from carrara.engines.request import Progress
from carrara.runtime.events import (
    DraftShown,
    RunFinished,
    RunStarted,
    StepFailed,
    StepFinished,
    StepStarted,
)
from carrara.runtime.progress import LiveProgress, PlainProgress, chosen, progress
from carrara.runtime.report import StepReport


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_a_second_while_something_happens() -> None:
    clock, out = Clock(), io.StringIO()
    shown = PlainProgress(out, clock)
    shown(RunStarted("r", 100.0, "book"))
    for i in range(24):
        clock.now += 0.125
        shown(StepStarted("r", clock.now, "book/a", i))
        shown(StepFinished("r", clock.now, "book/a", i, 0.125))
    shown(RunFinished("r", clock.now, True, "", 3.0, 24, 0))
    assert out.getvalue().splitlines() == [
        "1.0 s: 7 done, 1 running (book/a 1)",
        "2.0 s: 15 done, 1 running (book/a 1)",
        "3.0 s: 23 done, 1 running (book/a 1)",
        "run r of book: done after 3.0 s, steps: 24 done",
    ]


def test_while_nothing_changes_a_line_every_ten_seconds() -> None:
    clock, out = Clock(), io.StringIO()
    shown = PlainProgress(out, clock)
    shown(RunStarted("r", 100.0, "book"))
    shown(StepStarted("r", 100.0, "book/a", 1))
    for _ in range(25):
        clock.now += 1.0
        shown.tick()
    assert out.getvalue().splitlines() == [
        "1.0 s: 0 done, 1 running (book/a 1)",
        "11.0 s: 0 done, 1 running (book/a 1)",
        "21.0 s: 0 done, 1 running (book/a 1)",
    ]


def test_a_failure_is_told_at_once_and_a_retry_is_not() -> None:
    clock, out = Clock(), io.StringIO()
    shown = PlainProgress(out, clock)
    shown(RunStarted("r", 100.0, "book"))
    shown(StepFailed("r", 100.0, "book/a[3]", 1, 1, "ValueError: no", True, 0.1))
    assert out.getvalue() == ""
    shown(StepFailed("r", 100.0, "book/a[3]", 1, 2, "ValueError: no", False, 0.1))
    assert out.getvalue() == "failed: book/a[3]: ValueError: no\n"
    shown(StepFailed("r", 100.0, "book", 2, 1, "StepError: step 'book/a[3]'", within=True))
    assert out.getvalue() == "failed: book/a[3]: ValueError: no\n"


def test_of_many_steps_at_work_some_are_named() -> None:
    clock, out = Clock(), io.StringIO()
    shown = PlainProgress(out, clock)
    shown(RunStarted("r", 100.0, "book"))
    for node in range(20):
        shown(StepStarted("r", 100.0, f"book/s{node}", node))
    clock.now += 1
    shown.tick()
    assert out.getvalue().endswith("book/s7 1, and 12 others)\n")


def test_a_long_error_is_told_by_its_first_line() -> None:
    out = io.StringIO()
    shown = PlainProgress(out, Clock())
    shown(RunStarted("r", 100.0, "book"))
    shown(StepFailed("r", 100.0, "book/a", 1, 1, "CassetteMiss: no\n-this\n+that", False, 0.1))
    assert out.getvalue() == "failed: book/a: CassetteMiss: no\n"


def test_a_reader_that_has_gone_away_does_not_end_the_run() -> None:
    out = io.StringIO()
    shown = PlainProgress(out, Clock())
    out.close()
    shown(RunStarted("r", 100.0, "book"))
    shown(RunFinished("r", 100.0, True))


def test_entering_and_leaving_a_display_leaves_no_thread() -> None:
    import threading

    before = threading.active_count()
    with PlainProgress(io.StringIO()) as shown:
        shown(RunStarted("r", 100.0, "book"))
    assert threading.active_count() == before


def test_the_display_suits_the_stream() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert isinstance(progress(io.StringIO()), PlainProgress)
    assert isinstance(progress(Terminal()), LiveProgress)


def drawn(shown: LiveProgress, width: int = 80) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, force_terminal=True).print(shown.draw())
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_the_live_display_shows_run_steps_and_the_newest_draft() -> None:
    clock = Clock()
    shown = LiveProgress(io.StringIO(), clock)
    shown(RunStarted("r", 100.0, "book"))
    for i in range(4):
        shown(StepStarted("r", 100.0, f"book/extract[{i}]", i))
    shown(StepFinished("r", 101.0, "book/extract[0]", 0, 1.0))
    shown(DraftShown("r", 101.0, "book/extract[1]", 1, Progress("two\nlines of [red]text", 0.4, 3)))
    clock.now = 102.5
    head, extract, draft = drawn(shown)
    assert head == "book  2.5 s: 1 done, 3 running (book/extract 3)"
    assert extract.startswith("book/extract ")
    assert extract.endswith("1/4 3 running")
    assert draft == "book/extract[1] 40% two lines of [red]text"
    shown(StepFinished("r", 103.0, "book/extract[1]", 1, 3.0))
    assert len(drawn(shown)) == 2


def test_of_a_text_that_grows_the_end_is_shown() -> None:
    shown = LiveProgress(io.StringIO(), Clock())
    shown(RunStarted("r", 100.0, "book"))
    shown(StepStarted("r", 100.0, "book/a", 1))
    shown(DraftShown("r", 101.0, "book/a", 1, Progress("word " * 200 + "the newest")))
    line = drawn(shown)[-1]
    assert line.startswith("book/a … ")
    assert line.endswith(" the newest")
    shown(DraftShown("r", 101.0, "book/a", 1, Progress("short")))
    assert drawn(shown)[-1] == "book/a short"


def test_before_the_run_begins_no_time_has_passed() -> None:
    assert drawn(LiveProgress(io.StringIO(), Clock()))[0].strip() == "0 s: 0 done"


def test_a_long_draft_takes_one_line_and_many_steps_only_the_rows_there_are() -> None:
    shown = LiveProgress(io.StringIO(), Clock(), rows=5)
    shown(RunStarted("r", 100.0, "book"))
    for i in range(30):
        shown(StepStarted("r", 100.0, f"book/s{i}", i))
        if i != 3:
            shown(StepFinished("r", 100.0, f"book/s{i}", i, 0.1))
    shown(DraftShown("r", 101.0, "book/s3", 3, Progress("word " * 200, 0.5)))
    lines = drawn(shown)
    assert [line.split()[0] for line in lines[1:6]] == [f"book/s{i}" for i in (3, 26, 27, 28, 29)]
    assert lines[6] == "and 25 more steps"
    assert len(lines) == 8


def test_steps_at_work_are_shown_before_others() -> None:
    steps = [StepReport(f"s{i}", done=1, running=int(i in (0, 2))) for i in range(6)]
    assert [step.path for step in chosen(steps, 3)] == ["s0", "s2", "s5"]
    assert chosen(steps, 10) == steps


def test_a_live_display_cleans_up_behind_itself() -> None:
    out = io.StringIO()
    with LiveProgress(out) as shown:
        shown(RunStarted("r", 100.0, "book"))
    shown(RunFinished("r", 101.0, True))
