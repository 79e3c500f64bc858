"""kill -9 at any moment: nothing finished is lost, nothing is done twice, the outcome is the undisturbed one.

A run of 200 steps in a process of its own is killed at random moments and taken up again by the next process
until it ends. CARRARA_KILLS sets how often (15; the release check uses 200), CARRARA_SEED the moments.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import carrara
from carrara.runtime.journal.api import RunRecord
from carrara.runtime.journal.reading import Reader
from carrara.runtime.journal.sqlite import SqliteJournal

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(carrara.__file__).parents[1])}
VICTIM = Path(__file__).with_name("victim.py")
KILLS = int(os.environ.get("CARRARA_KILLS", "15"))
SEED = int(os.environ.get("CARRARA_SEED", "20261123"))
SLOTS, STEPS = 8, {"tree": 1 + 45 * 4 + 20 + 1, "race": 40 * 5}
WANTED: dict[str, dict[str, Any]] = {
    "tree": {"labels": [f"#{i * i * 1000 + i * i + 1}" for i in range(45)]},
    "race": {"found": dict(sorted((str(i), i * 7 + 4) for i in range(40)))},
}

Facts = tuple[str, str, str]
"""A step's work as the side file tells it: path, arguments, value."""


class Story:
    """One run, from its first start through its kills to its end."""

    def __init__(self, folder: Path, workflow: str) -> None:
        self.folder = folder
        self.workflow = workflow
        self.kills = 0
        self.sessions = 0
        self.recorded: Counter[Facts] = Counter()
        self.rows: dict[int, Any] = {}

    def session(self, kill_after_s: float | None) -> bool:
        """Start or resume the run; True if it came to its end before the kill."""
        self.sessions += 1
        process = subprocess.Popen(
            [sys.executable, str(VICTIM), str(self.folder), self.workflow, str(self.sessions)],
            stdout=subprocess.PIPE,
            env=ENVIRONMENT,
        )
        try:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                code = process.wait(kill_after_s)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
            assert code in (0, -9), f"session {self.sessions} ended by itself with {code}"
            self.kills += code == -9
            return code == 0
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def check(self) -> None:
        """After a session: what was finished before it was not done again, and what it did is recorded."""
        done = self.done(self.sessions)
        recorded = self.in_journal()
        repeated = {path for (path, args, _), n in done.items() if self.is_known(path, args)}
        assert not repeated, f"done again although recorded: {repeated}"
        assert not self.recorded - recorded, "lost from the journal"
        lost = done - (recorded - self.recorded)
        assert lost.total() <= 2 * SLOTS, f"{lost.total()} steps were done and not recorded"
        unasked = recorded - self.recorded - done
        assert not unasked, f"recorded what was not done: {unasked}"
        self.recorded = recorded
        rows = self.rows_now()
        assert {place: rows[place] for place in self.rows} == self.rows, (
            "an output row was written again"
        )
        self.rows = rows

    def is_known(self, path: str, args: str) -> bool:
        """Whether all that was ever asked of this path with these arguments had been recorded before."""
        before = sum(n for (p, a, _), n in self.recorded.items() if (p, a) == (path, args))
        return before >= (20 if path == "tree/draw" else 1)

    def done(self, session: int) -> Counter[Facts]:
        """What bodies did in a session, by the side file."""
        file = self.folder / "done.txt"
        lines = file.read_text().splitlines() if file.exists() else []
        facts = (json.loads(line) for line in lines)
        return Counter(
            (path, args, json.dumps(value)) for s, path, args, value in facts if s == str(session)
        )

    def in_journal(self) -> Counter[Facts]:
        """What is recorded, as the next process would find it. Arguments are told from the side file's lines."""
        if not (self.folder / "journal.db").exists():
            return Counter()
        asked: dict[tuple[str, str], list[str]] = {}
        for session in range(1, self.sessions + 1):
            for path, args, value in self.done(session).elements():
                asked.setdefault((path, value), []).append(args)
        with SqliteJournal(self.folder / "journal.db") as journal:
            if not journal.runs():
                return Counter()
            journal.open_run(RunRecord("r", self.workflow, 0.0))
            found: Counter[Facts] = Counter()
            for key, stored in journal.finished("r").items():
                value = json.dumps(stored.value(None))
                assert (key.path, value) in asked, f"{key.path} is recorded with another value"
                found[key.path, asked[key.path, value][0], value] += 1
            journal.close_run("r", False, "looked at", 0.0)
        return found

    def rows_now(self) -> dict[int, Any]:
        if not (self.folder / "journal.db").exists():
            return {}
        with Reader.open(self.folder / "journal.db") as reader:
            return {row.place: row.payload for row in reader.rows("r")} if reader.runs() else {}

    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "result.json").read_text())
        return found


@pytest.mark.parametrize("workflow", ["tree", "race"])
def test_killed_at_random_moments_a_run_ends_as_if_nothing_had_happened(
    workflow: str, tmp_path: Path
) -> None:
    moments = random.Random(f"{SEED} {workflow}")
    wanted = max(1, (KILLS + 1) // 2)
    for number in range(10 * wanted):
        story = Story(tmp_path / str(number), workflow)
        story.folder.mkdir()
        while not story.session(moments.random() ** 2 * 0.4 if wanted > story.kills else None):
            story.check()
        story.check()
        check_the_end(story)
        wanted -= story.kills
        if wanted <= 0:
            return
    pytest.fail("the kills came too late to hit anything")


def check_the_end(story: Story) -> None:
    found = story.result()
    assert story.recorded.total() == STEPS[story.workflow]
    assert WANTED[story.workflow].items() <= found.items(), (
        f"wrong values after {story.kills} kills"
    )
    if story.workflow == "tree":
        drawn = sorted(
            int(value) for path, _, value in story.recorded.elements() if path == "tree/draw"
        )
        assert sorted(found["draws"]) == drawn, "an answer was used that is not the recorded one"
        judged = sum(i * i * 1000 + i * i + 1 for i in range(45))
        assert found["total"] == judged + sum(drawn)
        assert [row[0] for row in story.rows.values()] == found["labels"]


def test_resuming_a_run_that_has_ended_does_nothing_again(tmp_path: Path) -> None:
    story = Story(tmp_path, "tree")
    assert story.session(None)
    first = story.result()
    assert story.session(None)
    again = story.result()
    assert story.done(2) == Counter()
    assert again["reused"] == STEPS["tree"]
    assert {**again, "reused": 0} == first
