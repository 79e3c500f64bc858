"""One review of a file at a time: a second would write over what the first has decided."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from carrara.workflows.places import PlaceError
from carrara.workflows.review.decisions import Decision, held_decisions
from carrara.workflows.review.rows import read_review

Files = Callable[..., Path]
HOLDS = """
import pathlib, sys, time
from carrara.workflows.review.decisions import held_decisions
with held_decisions(pathlib.Path(sys.argv[1]), []):
    print("held", flush=True)
    time.sleep(600)
"""


def keys_of(path: Path) -> list[str]:
    return [json.loads(line)["key"] for line in path.read_text().splitlines()]


def test_a_second_review_is_refused_until_the_first_has_ended(review_file: Files) -> None:
    path = review_file("a", "b")
    with held_decisions(path, read_review(path)) as first:
        with (
            pytest.raises(PlaceError, match="somebody reviews it now"),
            held_decisions(path, read_review(path)),
        ):
            pass
        first.decide("a", Decision("rejected", None))
    with held_decisions(path, read_review(path)) as second:
        second.decide("b", Decision("rejected", None))
    assert keys_of(second.decided) == ["a", "b"]
    assert not list(path.parent.glob(".*.lock"))


def test_a_review_that_was_killed_keeps_nobody_out(review_file: Files) -> None:
    path = review_file("a")
    held = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert held.stdout is not None
    with held.stdout:
        assert held.stdout.readline() == "held\n"
    with pytest.raises(PlaceError), held_decisions(path, read_review(path)):
        pass
    held.send_signal(signal.SIGKILL)
    held.wait()
    with held_decisions(path, read_review(path)) as decisions:
        decisions.decide("a", Decision("rejected", None))
    assert keys_of(decisions.decided) == ["a"]
