"""Going on with a job: finished steps are kept, another input is refused, another definition is told."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from carrara.cli.running import _tell_outdated
from carrara.engines.request import Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.errors import JournalError
from carrara.runtime.events import Event, StepChanged
from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.workflows.definition_hash import definition_hash
from carrara.workflows.job import Job, JobResult, Until, find_job, run_job
from carrara.workflows.places import PlaceError
from carrara.workflows.records import Record, SourceError
from carrara.workflows.run import session
from carrara.workflows.yaml import loads

PIPELINE = """
name: two
inputs: {text: str}
steps:
  first: {llm: "First: {{ text }}"}
  second: {llm: "Second: {{ first }}"}
outputs: {said: "{{ second }}"}
"""


class Ticks:
    """A clock that is a second further whenever it is asked."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        self._now += 1.0
        return self._now


class Desk:
    """Jobs over one pipeline in one folder; `asked` are the prompts of the last run."""

    def __init__(self, folder: Path, journal: SqliteJournal) -> None:
        self.folder = folder
        self.journal = journal
        self.asked: list[str] = []
        self.events: list[Event] = []
        self.told: list[tuple[int, int]] = []
        self.asks: Job | None = None
        self.define(PIPELINE)

    def define(self, text: str) -> None:
        (self.folder / "two.yaml").write_text(text)

    def give(self, *texts: str) -> None:
        """The input: a line for each text, without an id."""
        lines = (json.dumps({"text": text}) + "\n" for text in texts)
        (self.folder / "in.jsonl").write_text("".join(lines))

    def give_keys(self, keys: str) -> None:
        """The input: a line for each letter, which is its id, too."""
        lines = (json.dumps({"id": key, "text": key}) + "\n" for key in keys)
        (self.folder / "in.jsonl").write_text("".join(lines))

    @property
    def job(self) -> Job:
        folder = self.folder
        return Job(str(folder / "two.yaml"), str(folder / "in.jsonl"), str(folder / "out.jsonl"))

    def run(self, *failing: str, go_on: JobResult | None = None, **more: Any) -> JobResult:
        def reply(request: Request) -> str:
            asked = request.messages[-1].content
            if asked in failing:
                raise RuntimeError(f"no answer to {asked!r}")
            return asked[-1].upper()

        engine = ScriptedEngine("ar", reply)
        self.events = []
        self.told = []

        async def main() -> JobResult:
            async with session(journal=self.journal, engines={"ar": engine}) as kept:
                run_id = go_on.run_id if go_on else None
                return await run_job(
                    self.asks or self.job,
                    kept,
                    run_id=run_id,
                    outdated=lambda count: self.told.append((count, len(engine.requests))),
                    listeners=[self.events.append],
                    **more,
                )

        try:
            return asyncio.run(main())
        finally:
            self.asked = sorted(request.messages[-1].content for request in engine.requests)

    def rows(self, name: str = "out.jsonl") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    journal = SqliteJournal(tmp_path / "journal.db")
    yield Desk(tmp_path, journal)
    journal.close()


def test_finished_steps_of_failed_records_are_taken_from_the_journal(desk: Desk) -> None:
    desk.give("a", "b", "c", "d", "e")
    first = desk.run("Second: B", "Second: D", "Second: E")
    assert (first.done, first.failed) == (2, 3)
    second = desk.run("Second: D", go_on=first)
    assert set(desk.asked) == {"Second: B", "Second: D", "Second: E"}
    assert not [event for event in desk.events if isinstance(event, StepChanged)]
    third = desk.run(go_on=second)
    assert desk.asked == ["Second: D"]
    assert not [event for event in desk.events if isinstance(event, StepChanged)]
    assert (third.done, third.failed, third.reused) == (5, 0, 4)
    assert [row["said"] for row in desk.rows()] == ["A", "B", "C", "D", "E"]


def test_failed_records_may_be_mended_in_the_input(desk: Desk) -> None:
    desk.give("a", "b", "c")
    first = desk.run("First: b")
    desk.give("a", "x", "c")
    second = desk.run(go_on=first)
    assert (second.done, second.outdated) == (3, 0)
    assert [row["said"] for row in desk.rows()] == ["A", "X", "C"]


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (["b", "c", "d"], r"in.jsonl:1: this record has other content"),
        (["a", "b", "z", "d"], r"in.jsonl:3: this record has other content"),
        (["a", "b", "c"], r"the record 'line:4' was there when the job began and is gone now"),
    ],
    ids=["first line gone", "a line changed", "last line gone"],
)
def test_another_input_is_refused_though_its_records_have_no_id(
    desk: Desk, now: list[str], reason: str
) -> None:
    desk.give("a", "b", "c", "d")
    first = desk.run("Second: B")
    desk.give(*now)
    with pytest.raises(SourceError, match=reason) as raised:
        desk.run(go_on=first)
    assert "goes on with the input that it began with" in str(raised.value)


def test_a_changed_source_is_refused_before_anything_runs_or_is_written(desk: Desk) -> None:
    desk.give_keys("abcdef")
    first = desk.run("First: b", "First: e")
    there = {path: path.read_bytes() for path in desk.folder.glob("out.*")}
    desk.give_keys("acdef")
    with pytest.raises(SourceError, match=r"in.jsonl:3: this record was 'c' when the job began"):
        desk.run(go_on=first)
    assert desk.asked == []
    assert {path: path.read_bytes() for path in desk.folder.glob("out.*")} == there


@pytest.mark.parametrize("accept_changes", [False, True])
def test_a_record_whose_row_lies_behind_the_limit_is_not_run_again(
    desk: Desk, accept_changes: bool
) -> None:
    desk.give_keys("abcdef")
    first = desk.run("First: b")
    desk.give_keys("acdef")
    desk.asks = replace(desk.job, limit=2)
    with pytest.raises(SourceError, match="the record 'c' stood elsewhere") as raised:
        desk.run(go_on=first, accept_changes=accept_changes)
    assert "(without --limit)" in str(raised.value)
    assert desk.asked == []


@pytest.mark.parametrize(
    ("before", "after", "limit", "reason"),
    [
        ("abcd", "dabc", 2, "the record 'd' stood elsewhere"),
        ("abcd", "nabcd", 2, "in.jsonl:3: the record 'b' stood within --limit 2"),
        ("abcd", "acBd", 1, ""),
        ("abcd", "nacd", 2, ""),
    ],
    ids=["its row is behind", "its place is behind and taken", "behind", "gone"],
)
def test_no_row_is_dropped_whose_record_only_stands_behind_the_limit(
    desk: Desk, before: str, after: str, limit: int, reason: str
) -> None:
    desk.give_keys(before)
    first = desk.run()
    rows = desk.journal.rows(first.run_id)
    there = {path: path.read_bytes() for path in desk.folder.glob("out.*")}
    desk.give_keys(after)
    desk.asks = replace(desk.job, limit=limit)
    if reason:
        with pytest.raises(SourceError, match=reason) as raised:
            desk.run(go_on=first, accept_changes=True)
        assert "(without --limit)" in str(raised.value)
        assert desk.asked == []
        assert desk.journal.rows(first.run_id) == rows
        assert {path: path.read_bytes() for path in desk.folder.glob("out.*")} == there
    else:
        again = desk.run(go_on=first, accept_changes=True)
        assert again.dropped == (after == "nacd")
    desk.asks = desk.job
    whole = desk.run(go_on=first, accept_changes=True)
    assert [row["key"] for row in desk.rows()] == list(after)
    assert whole.done == len(after)


def test_a_row_goes_behind_the_limit_with_its_record_where_there_is_room(desk: Desk) -> None:
    desk.give_keys("abcd")
    desk.asks = replace(desk.job, limit=2)
    first = desk.run()
    desk.give_keys("nabcd")
    again = desk.run(go_on=first, accept_changes=True)
    assert (again.done, again.moved, again.dropped) == (3, 2, 0)
    assert desk.asked == ["First: n", "Second: N"]
    assert [row["key"] for row in desk.rows()] == ["n", "a", "b"]
    desk.asks = desk.job
    assert desk.run(go_on=again).reused == 3
    assert desk.asked == ["First: c", "First: d", "Second: C", "Second: D"]


def test_rows_behind_the_limit_are_not_dropped_for_their_type(desk: Desk) -> None:
    desk.give_keys("abcde")
    first = desk.run()
    there = {path: path.read_bytes() for path in desk.folder.glob("out.*")}
    desk.define(PIPELINE.replace("outputs: {", 'outputs: {more: "{{ first }}", '))
    desk.asks = replace(desk.job, limit=2)
    with pytest.raises(
        PlaceError, match=r"3 of the rows behind --limit 2 .* 'c': .*more"
    ) as raised:
        desk.run(go_on=first, accept_changes=True)
    assert "Go on without --limit" in str(raised.value)
    assert desk.asked == []
    assert len(desk.journal.rows(first.run_id)) == 5
    assert {path: path.read_bytes() for path in desk.folder.glob("out.*")} == there
    desk.asks = desk.job
    assert desk.run(go_on=first, accept_changes=True).done == 5


@pytest.mark.parametrize("accept_changes", [False, True])
def test_a_failed_record_that_moves_has_failed_once(desk: Desk, accept_changes: bool) -> None:
    desk.give_keys("bcdef")
    first = desk.run("First: b", "First: f")
    desk.give_keys("fcdebg")
    desk.asks = replace(desk.job, limit=1)
    again = desk.run("First: f", go_on=first, accept_changes=accept_changes)
    assert (again.done, again.failed) == (3, 1 + accept_changes)
    told = {row["key"]: row["where"].rpartition(":")[2] for row in desk.rows("out.failed.jsonl")}
    assert told == ({"f": "1", "b": "5"} if accept_changes else {"f": "1"})
    for _ in range(2):
        again = desk.run(go_on=again, accept_changes=accept_changes)
        assert (again.done, again.failed) == (4, int(accept_changes))
        assert [row["key"] for row in desk.rows()] == list("fcde")
    desk.asks = desk.job
    assert (desk.run(go_on=again).done, desk.journal.find("last").failures) == (6, 0)


def test_a_record_that_failed_and_has_a_row_elsewhere_is_not_among_the_failed(desk: Desk) -> None:
    """Its text is that of a record which is gone, and whose row it takes."""
    desk.give("a", "b", "c")
    first = desk.run("First: a")
    desk.give("b", "c", "a")
    again = desk.run("First: a", go_on=first, accept_changes=True)
    assert (again.done, again.failed, again.moved) == (2, 1, 2)
    assert [row["key"] for row in desk.rows("out.failed.jsonl")] == ["line:3"]


def test_a_changed_standard_input_makes_no_row_twice(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pipe(keys: str) -> None:
        desk.give_keys(keys)
        lines = BytesIO((desk.folder / "in.jsonl").read_bytes())
        monkeypatch.setattr("sys.stdin", TextIOWrapper(lines))

    desk.asks = replace(desk.job, input="-")
    pipe("abc")
    first = desk.run("First: b")
    pipe("ac")
    with pytest.raises(SourceError, match="stdin:2: the record 'c' stood elsewhere"):
        desk.run(go_on=first)
    assert desk.asked == []
    assert [row["key"] for row in desk.rows()] == ["a", "c"]
    assert [row["key"] for row in desk.rows("out.failed.jsonl")] == ["b"]


@pytest.mark.parametrize("accept_changes", [False, True])
def test_a_job_that_is_running_is_not_touched_by_a_second_start(
    desk: Desk, accept_changes: bool
) -> None:
    desk.give("a", "b", "c")
    first = desk.run("First: a", "First: c")  # its files are there: the next start makes them anew
    names = ("out.jsonl", "out.failed.jsonl", "out.trust.jsonl")
    refused: list[str] = []

    async def main() -> JobResult:
        async def reply(request: Request) -> str:
            if request.messages[-1].content == "Second: C":
                assert [row["said"] for row in desk.rows()][:1] in (["A"], ["B"])
                before = [(desk.folder / name).stat() for name in names if name in there()]
                with pytest.raises(JournalError, match="is running") as caught:
                    await run_job(job, kept, run_id=first.run_id, accept_changes=accept_changes)
                refused.append(str(caught.value))
                assert before == [(desk.folder / name).stat() for name in names if name in there()]
            if request.messages[-1].content == "First: a":
                raise RuntimeError("no")
            return request.messages[-1].content[-1].upper()

        def there() -> set[str]:
            return {path.name for path in desk.folder.iterdir()}

        job = replace(desk.job, trust=True, order="completed", concurrency=1)
        async with session(
            journal=desk.journal, engines={"ar": ScriptedEngine("ar", reply)}
        ) as kept:
            return await run_job(job, kept, run_id=first.run_id)

    result = asyncio.run(main())
    assert len(refused) == 1
    assert (result.done, result.failed) == (2, 1)
    assert [row["said"] for row in desk.rows()] == ["B", "C"]
    (failed,) = desk.rows("out.failed.jsonl")
    assert failed["key"] == "line:1"


def test_records_behind_another_limit_are_not_looked_at(desk: Desk) -> None:
    texts = "abcdef"
    desk.give(*texts)
    first = desk.run("Second: B", "Second: E")
    assert (first.done, first.failed) == (4, 2)
    before = desk.rows("out.failed.jsonl")
    for accept_changes in (False, True):
        desk.asks = replace(desk.job, limit=3)
        second = desk.run(go_on=first, accept_changes=accept_changes)
        assert (second.done, second.failed, second.dropped) == (5, 1, 0)
        assert [row["said"] for row in desk.rows()] == ["A", "B", "C", "D", "F"]
        assert desk.rows("out.failed.jsonl") == before[1:]
    desk.asks = replace(desk.job, limit=5)
    third = desk.run(go_on=first)
    assert (third.done, third.failed, desk.asked) == (6, 0, ["Second: E"])
    assert not (desk.folder / "out.failed.jsonl").exists()


def test_records_that_failed_and_were_not_tried_again_are_still_failed(desk: Desk) -> None:
    desk.give("a", "b", "c")
    first = desk.run("First: a", "First: c")
    before = desk.rows("out.failed.jsonl")
    second = desk.run(go_on=first, until=Until(deadline_s=0))
    assert (second.done, second.failed) == (1, 2)
    assert desk.rows("out.failed.jsonl") == before
    desk.give("a", "b")  # the last is gone, and with it its failure
    third = desk.run("First: a", go_on=first)
    assert (third.done, third.failed) == (1, 1)
    assert desk.rows("out.failed.jsonl") == before[:1]


def test_a_job_goes_on_from_another_folder(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts").mkdir()
    for name in "abc":
        (tmp_path / "texts" / f"{name}.txt").write_text(name)
    monkeypatch.chdir(tmp_path)
    desk.asks = Job("two.yaml", "texts/*.txt", "out.jsonl")
    first = desk.run("Second: B")
    (run,) = desk.journal.runs()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert find_job(desk.asks, desk.journal) is None
    desk.asks = Job.from_source(run.source)
    assert find_job(desk.asks, desk.journal) == run.run_id
    assert desk.run(go_on=first).done == 3
    assert desk.asked == ["Second: B"]
    keys = [f"texts/{name}.txt" for name in "abc"]
    assert [row["key"] for row in desk.rows()] == keys
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_job_whose_records_all_failed_is_not_done(desk: Desk) -> None:
    (desk.folder / "in.jsonl").write_text('{"other": 1}\n{"other": 2}\n')
    result = desk.run()
    assert (result.done, result.failed) == (0, 2)
    (run,) = desk.journal.runs()
    assert (run.status, run.failures) == ("failed", 2)
    assert run.error == "none of its 2 records succeeded"
    desk.give("a", "b")
    assert desk.run(go_on=result).failed == 0
    assert desk.journal.find("last").status == "done"


def test_an_input_may_have_grown(desk: Desk) -> None:
    desk.give("a", "b")
    first = desk.run()
    desk.give("a", "b", "c")
    assert desk.run(go_on=first).done == 3
    assert desk.asked == ["First: c", "Second: C"]


def test_rows_of_a_journal_without_hashes_are_kept(desk: Desk) -> None:
    desk.give("a", "b")
    first = desk.run("Second: A", "Second: B")

    async def as_an_earlier_version_did() -> None:
        async def body() -> None:
            desk.journal.put_row(
                first.run_id, 0, "line:1", "done", {"key": "line:1", "said": "old"}
            )

        async with session(journal=desk.journal, engines={}) as kept:
            await kept.execute(body, name="two (job)", run_id=first.run_id)

    asyncio.run(as_an_earlier_version_did())
    second = desk.run(go_on=first)
    assert (second.done, second.reused, second.outdated) == (2, 1, 0)
    assert [row["said"] for row in desk.rows()] == ["old", "B"]


def test_rows_of_an_earlier_definition_are_counted_and_told_before_anything_runs(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.give("a", "b", "c")
    first = desk.run("Second: C")
    assert desk.told == []
    desk.define(PIPELINE.replace("Second:", "2nd:"))
    second = desk.run(go_on=first)
    assert (second.done, second.reused, second.outdated) == (3, 2, 2)
    assert desk.told == [(2, 0)]
    _tell_outdated(2, desk.job, "`carrara resume r --accept-changes`")
    told = capsys.readouterr().err
    assert "has changed since the job began: 2 of the rows" in told
    assert "kept; `carrara resume r --accept-changes` makes them again" in told


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (PIPELINE.replace("name: two", "name: two\ndescription: twice"), True),
        (PIPELINE.replace('"Second: {{ first }}"', '"Second: {{ first }}", retries: 3'), True),
        (PIPELINE.replace("{{ second }}", "{{ second }}!"), False),
        (PIPELINE.replace("First:", "1st:"), False),
        (
            PIPELINE.replace('"Second: {{ first }}"', '"Second: {{ first }}", when: "{{ first }}"'),
            False,
        ),
    ],
    ids=["description", "retries", "output", "prompt", "condition"],
)
def test_the_hash_of_a_pipeline_is_that_of_what_makes_its_results(text: str, same: bool) -> None:
    before, after = (definition_hash(loads(t).workflow) for t in (PIPELINE, text))
    assert (before == after) is same


def test_records_that_only_stand_elsewhere_are_not_told_as_dropped(desk: Desk) -> None:
    desk.give("a", "b", "c", "c", "d")
    first = desk.run()
    desk.give("new", "b", "a", "c", "c")
    second = desk.run(go_on=first, accept_changes=True)
    assert (second.done, second.moved, second.dropped) == (5, 2, 1)
    assert desk.asked == ["First: new", "Second: W"]
    assert [row["said"] for row in desk.rows()] == ["W", "B", "A", "C", "C"]


def test_a_changed_step_runs_again_for_finished_records_and_nothing_upstream_of_it(
    desk: Desk,
) -> None:
    desk.give("a", "b", "c")
    first = desk.run()
    desk.define(PIPELINE.replace("Second:", "2nd:"))
    again = desk.run(go_on=first, accept_changes=True)
    assert desk.asked == ["2nd: A", "2nd: B", "2nd: C"]
    assert desk.told == []
    assert (again.done, again.reused, again.remade, again.outdated, again.dropped) == (
        3,
        0,
        3,
        0,
        0,
    )
    desk.define(PIPELINE.replace("{{ second }}", "{{ second }}!"))  # as at first, but for the row
    third = desk.run(go_on=again, accept_changes=True)
    assert (desk.asked, third.remade) == ([], 3)
    assert [row["said"] for row in desk.rows()] == ["A!", "B!", "C!"]
    last = desk.run(go_on=third, accept_changes=True)
    assert (last.done, last.reused, last.remade) == (3, 3, 0)


def test_a_row_is_kept_until_the_one_that_replaces_it_is_there(desk: Desk) -> None:
    desk.give("a", "b", "c", "d")
    first = desk.run()
    desk.define(PIPELINE.replace("Second:", "2nd:"))
    desk.asks = replace(desk.job, concurrency=1)
    cut = desk.run(
        "2nd: B", go_on=first, accept_changes=True, until=Until(deadline_s=2.5), clock=Ticks()
    )
    assert (cut.remade, cut.failed, bool(cut.stopped)) == (1, 1, True)
    kept = {row.key: (row.state, row.payload) for row in desk.journal.rows(first.run_id)}
    assert [state for state, _ in kept.values()] == ["done", "failed", "done", "done"]
    assert [row["key"] for row in desk.rows()] == ["line:1"]
    held = desk.run(go_on=cut)  # nothing is accepted: the rest is as it was
    assert desk.asked == ["2nd: B"]
    assert desk.told == [(2, 0)]
    assert (held.done, held.outdated) == (4, 2)
    done = desk.run(go_on=held, accept_changes=True)
    assert desk.asked == ["2nd: C", "2nd: D"]
    assert (done.done, done.remade, done.reused) == (4, 2, 2)


def test_rows_behind_the_limit_keep_their_earlier_definition(desk: Desk) -> None:
    desk.give("a", "b", "c")
    first = desk.run()
    desk.define(PIPELINE.replace("Second:", "2nd:"))
    desk.asks = replace(desk.job, limit=1)
    second = desk.run(go_on=first, accept_changes=True)
    assert desk.asked == ["2nd: A"]
    assert (second.done, second.remade, second.outdated) == (3, 1, 2)
    assert len(desk.rows()) == 3


def test_what_is_known_of_steps_that_are_not_asked_again_stands_beside_the_new_rows(
    desk: Desk,
) -> None:
    both = PIPELINE.replace('said: "{{ second }}"', 'said: "{{ second }}", at_first: "{{ first }}"')
    desk.define(both)
    desk.asks = replace(desk.job, trust=True)
    desk.give("a", "b")
    first = desk.run()
    before = [line["fields"]["/at_first"] for line in desk.rows("out.trust.jsonl")]
    assert [facts["engine"] for facts in before] == ["ar", "ar"]
    desk.define(both.replace("Second: ", "2nd: {{ text }} "))
    desk.run(go_on=first, accept_changes=True)
    assert desk.asked == ["2nd: a A", "2nd: b B"]
    after = [line["fields"] for line in desk.rows("out.trust.jsonl")]
    assert [facts["/at_first"] for facts in after] == before
    assert [facts["/said"]["engine"] for facts in after] == ["ar", "ar"]


@pytest.mark.parametrize("at_once", [1, 6])
def test_equal_records_are_answered_once(desk: Desk, at_once: int) -> None:
    desk.give("a", "b", "a", "a", "b", "a")
    desk.asks = replace(desk.job, concurrency=at_once)
    desk.run()
    assert desk.asked == ["First: a", "First: b", "Second: A", "Second: B"]
    assert [row["said"] for row in desk.rows()] == ["A", "B", "A", "A", "B", "A"]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of all records that have been read."""
    keys: list[str] = []
    reading = Job.records

    def counted(self: Job, keep: tuple[type, ...] = ()) -> Iterator[Record]:
        for record in reading(self, keep):
            keys.append(record.key)
            yield record

    monkeypatch.setattr(Job, "records", counted)
    return keys


@pytest.mark.parametrize("limit", [None, 2, 9])
def test_a_source_is_read_once_when_its_job_goes_on(
    desk: Desk, read: list[str], limit: int | None
) -> None:
    desk.asks = replace(desk.job, limit=limit)
    desk.give_keys("abc")
    first = desk.run("First: b")
    read.clear()
    desk.give_keys("abcd")
    again = desk.run(go_on=first)
    assert read == list("abcd"[:limit])
    assert (again.done, again.failed) == (len(read), 0)
    assert [row["key"] for row in desk.rows()] == read
    read.clear()
    assert desk.run(go_on=again).reused == again.done
    assert read == list("abcd"[:limit])


def test_a_source_with_much_that_is_open_between_its_rows_is_read_twice(
    desk: Desk, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carrara.workflows.still_open.AT_ONCE_BYTES", 150)
    desk.give_keys("abcd")
    first = desk.run("First: a", "First: b")
    read.clear()
    again = desk.run(go_on=first)
    assert read == list("abcd" * 2)
    assert (again.done, again.failed) == (4, 0)
    assert [row["key"] for row in desk.rows()] == list("abcd")
