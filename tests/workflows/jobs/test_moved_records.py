"""Records that move, come, go and change while a job rests: a row follows its record, and an answer serves one."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.engines.request import Completion, Confidence, Request, Usage
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.workflows.job import Job, JobResult, run_job
from carrara.workflows.records import SourceError
from carrara.workflows.run import session

VOTE = """
name: vote
inputs: {text: str}
steps:
  vote: {llm: "Vote on {{ text }}", temperature: 1}
outputs: {vote: "{{ vote }}"}
"""
TOTAL = """
name: vote
inputs: {text: str}
steps:
  vote: {llm: "Vote on {{ text }}", temperature: 1}
  total: {llm: "Total of {{ vote }}"}
outputs: {vote: "{{ vote }}", total: "{{ total }}"}
"""
FLOW = """
from carrara import step, workflow

CALLED = []


@step
def number(text: str) -> int:
    CALLED.append(text)
    return len(CALLED)


@workflow
async def numbered(text: str) -> int:
    return await number(text)
"""


class Book:
    """Jobs over records of one folder, each a key and a text; None for the key: lines without an id. Every question
    gets another answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.result: JobResult | None = None
        self.broken = False
        self.accepts = True
        self.job = Job("p.yaml", "in.jsonl", "out.jsonl", folder=str(folder), trust=True)
        self._number = count(1)
        self.define(VOTE)

    def define(self, pipeline: str) -> None:
        (self.folder / "p.yaml").write_text(pipeline)

    def run(self, *records: tuple[str | None, str] | str, **fields: int) -> list[str]:
        """The texts that were asked for, as the job begins or goes on. A letter is a record whose text is its key; all
        records have the `fields`, too."""
        pairs = [(each, each) if isinstance(each, str) else each for each in records]
        told = (
            {"text": text, **({} if key is None else {"id": key}), **fields} for key, text in pairs
        )
        lines = (json.dumps(each) + "\n" for each in told)
        (self.folder / "in.jsonl").write_text("".join(lines))
        self.asked = []

        def reply(request: Request) -> Completion:
            asked = request.messages[-1].content
            self.asked.append(asked.removeprefix("Vote on "))
            if self.broken or asked.endswith("never"):
                raise RuntimeError("no answer")
            text = f"v{next(self._number)}"
            return Completion(text, None, Confidence(0.5, {"": 0.5}), Usage(), engine="ar")

        async def main() -> JobResult:
            async with session(
                engines={"ar": ScriptedEngine("ar", reply)}, journal=self.folder / "j.db"
            ) as kept:
                before = self.result
                return await run_job(
                    self.job,
                    kept,
                    run_id=before.run_id if before else None,
                    accept_changes=self.accepts and before is not None,
                )

        self.result = asyncio.run(main())
        return self.asked

    def lines(self, kind: str = "out") -> list[dict[str, Any]]:
        name = "out.jsonl" if kind == "out" else f"out.{kind}.jsonl"
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]

    def votes(self) -> dict[str, str]:
        return {row["key"]: row["vote"] for row in self.lines()}


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


def test_records_that_move_twice_are_not_asked_for_again(book: Book) -> None:
    assert len(book.run(*"ABCDEF")) == 6
    first = book.votes()
    assert book.run(*"NABCDEF") == ["N"]
    assert book.run(*"NMABCDEF") == ["M"]
    assert {key: vote for key, vote in book.votes().items() if key in first} == first
    assert [row["key"] for row in book.lines()] == list("NMABCDEF")
    assert book.result is not None
    assert (book.result.moved, book.result.reused, book.result.done) == (6, 7, 8)


def test_a_step_in_python_does_not_run_again_for_a_record_that_moved(book: Book) -> None:
    name = f"numbered_{book.folder.name}"
    (book.folder / f"{name}.py").write_text(FLOW)
    book.job = replace(book.job, target=f"{name}.py:numbered", concurrency=1)
    for records in ("ABCD", "NABCD", "NMABCD", "NMDCBA"):
        book.run(*records)
    assert "".join(sys.modules[name].CALLED) == "ABCDNM"
    assert {row["key"]: row["value"] for row in book.lines()} == dict(
        zip("ABCDNM", range(1, 7), strict=True)
    )


def test_records_of_one_text_keep_their_answers(book: Book) -> None:
    book.run(("A", "t"), ("B", "t"), ("C", "u"))
    before = book.votes()
    assert book.run(("C", "u"), ("A", "t"), ("B", "t")) == []
    assert book.votes() == before
    assert book.run(("D", "t"), ("B", "t"), ("A", "t"), ("C", "u")) == ["t"]
    after = book.votes()
    assert {key: after[key] for key in before} == before
    assert len(set(after.values())) == 4


def test_the_answers_of_a_record_that_has_gone_serve_the_next_that_asks(book: Book) -> None:
    book.run(("A", "t"), ("B", "u"))
    before = book.votes()
    assert book.run(("B", "u")) == []
    assert book.run(("C", "t"), ("B", "u"), ("D", "t")) == ["t"]
    assert before["A"] in (book.votes()["C"], book.votes()["D"])


def test_records_that_moved_keep_their_answers_when_the_definition_changes(book: Book) -> None:
    book.define(TOTAL)
    book.run(("A", "t"), ("B", "t"), ("C", "t"))
    book.run(("N", "t"), ("C", "t"), ("A", "t"), ("B", "t"))
    before = book.votes()
    book.define(TOTAL.replace("Total of", "Sum of"))
    asked = book.run(("B", "t"), ("M", "t"), ("N", "t"), ("C", "t"), ("A", "t"))
    assert asked.count("t") == 1  # the others ask for their sums alone
    assert len(asked) == 1 + 5
    assert {key: book.votes()[key] for key in before} == before


def test_a_record_takes_no_answer_of_one_that_stood_in_its_place(book: Book) -> None:
    book.run(("A", "t"), ("B", "u"))
    book.broken = True
    book.run(("N", "t"), ("A", "t"), ("B", "u"))
    book.broken, book.accepts = False, False
    assert book.run(("N", "t"), ("A", "t"), ("B", "u")) == ["t"]
    assert len(set(book.votes().values())) == 3


def test_a_record_that_changes_beside_its_text_keeps_its_answer(book: Book) -> None:
    book.run(("A", "t"), ("B", "t"))
    before = book.votes()
    assert book.run(("B", "t"), ("A", "t"), n=1) == []
    assert book.votes() == before


def test_a_review_tells_where_a_record_stands_now(book: Book) -> None:
    book.job = replace(book.job, review=1.0)
    book.run("A", "B")
    book.run("N", "A", "B")
    assert [(line["key"], line["where"][-1:]) for line in book.lines("review")] == [
        ("N", "1"),
        ("A", "2"),
        ("B", "3"),
    ]


def places_to_review(book: Book) -> list[tuple[str, str]]:
    return [(line["key"], line["where"].rpartition(":")[2]) for line in book.lines("review")]


def test_a_review_tells_of_lines_that_move_among_those_that_are_not_selected(book: Book) -> None:
    book.job = replace(book.job, review=1.0, where="text != 'skip'")
    book.run("A", "B")
    assert book.run(("S", "skip"), "A", "B") == []
    assert places_to_review(book) == [("A", "2"), ("B", "3")]


def test_a_review_whose_rewriting_was_cut_off_is_made_right(book: Book) -> None:
    book.job = replace(book.job, review=1.0)
    book.run("A", "B")
    assert book.result is not None
    run_id = book.result.run_id

    async def moved_and_killed() -> None:
        with SqliteJournal(book.folder / "j.db") as journal:

            async def body() -> None:
                journal.move_rows(run_id, [0, 1], [1, 0])

            async with session(journal=journal, engines={}) as kept:
                await kept.execute(body, name="vote (job)", run_id=run_id)

    asyncio.run(moved_and_killed())
    assert book.run("B", "A") == []
    assert places_to_review(book) == [("B", "1"), ("A", "2")]


def test_lines_without_an_id_are_known_by_what_they_hold(book: Book) -> None:
    book.run((None, "a"), (None, "b"), (None, "c"))
    before = [row["vote"] for row in book.lines()]
    assert book.run((None, "n"), (None, "a"), (None, "b"), (None, "c")) == ["n"]
    assert [row["vote"] for row in book.lines()][1:] == before
    assert [row["key"] for row in book.lines()] == ["line:1", "line:2", "line:3", "line:4"]
    assert [line["key"] for line in book.lines("trust")] == [row["key"] for row in book.lines()]


def test_a_table_has_no_row_under_the_key_of_a_record_that_fails_now(book: Book) -> None:
    table = f"sqlite:///{book.folder}/t.db#t"
    book.job = replace(book.job, output=table)
    book.run((None, "a"), (None, "b"))
    book.run((None, ""), (None, "a"), (None, "b"))
    with closing(sqlite3.connect(book.folder / "t.db")) as rows:
        found = rows.execute("SELECT key, vote FROM t ORDER BY key").fetchall()
    assert found == [("line:2", "v1"), ("line:3", "v2")]


TEXTS = st.sampled_from("tuv")
EDIT = st.one_of(
    st.tuples(st.just("insert"), st.integers(0, 9), TEXTS),
    st.tuples(st.just("delete"), st.integers(0, 9)),
    st.tuples(st.just("move"), st.integers(0, 9), st.integers(0, 9)),
    st.tuples(st.just("change"), st.integers(0, 9), TEXTS),
)
EDITS = st.lists(EDIT, max_size=4)


def edited(
    records: list[tuple[str, str]], edits: list[tuple[Any, ...]], numbers: Iterator[int]
) -> list[tuple[str, str]]:
    made = list(records)
    for what, at, *more in edits:
        place = min(at, len(made) - 1)
        match what:
            case "insert":
                made.insert(at, (f"r{next(numbers)}", more[0]))
            case "delete" if len(made) > 1:
                made.pop(place)
            case "move":
                made.insert(more[0], made.pop(place))
            case "change":
                made[place] = (made[place][0], more[0])
            case _:
                pass
    return made


@contextmanager
def new_book() -> Iterator[Book]:
    with tempfile.TemporaryDirectory() as folder:
        yield Book(Path(folder))


@settings(max_examples=25, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=6), st.lists(EDITS, min_size=1, max_size=4))
def test_whatever_becomes_of_the_records_each_keeps_its_answer_and_shares_it_with_none(
    texts: list[str], edits: list[list[tuple[Any, ...]]]
) -> None:
    numbers = count()
    records = [(f"r{next(numbers)}", text) for text in texts]
    made: Counter[str] = Counter()
    with new_book() as book:
        made.update(book.run(*records))
        assert made == Counter(texts)
        for some in edits:
            before, had = dict(records), book.votes()
            records = edited(records, some, numbers)
            asked = Counter(book.run(*records))
            after = book.votes()
            assert list(after) == [key for key, _ in records]
            kept = {key for key, text in records if before.get(key) == text}
            assert {key: after[key] for key in kept} == {key: had[key] for key in kept}
            assert len(set(after.values())) == len(records)
            # What nobody has any more is free, but for what the row of a record that is still there was made with.
            free = made - Counter(before[key] for key, _ in records if key in before)
            assert asked == Counter(text for key, text in records if key not in kept) - free
            made += asked


@settings(max_examples=15, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=6), st.lists(EDITS, min_size=1, max_size=3))
def test_lines_without_an_id_ask_for_no_more_than_there_is_new(
    texts: list[str], edits: list[list[tuple[Any, ...]]]
) -> None:
    records = [("", text) for text in texts]
    made: Counter[str] = Counter()
    with new_book() as book:
        made.update(book.run(*((None, text) for text in texts)))
        for some in edits:
            records = edited(records, some, count())
            asked = Counter(book.run(*((None, text) for _, text in records)))
            assert asked == Counter(text for _, text in records) - made
            assert len(set(book.votes().values())) == len(records)
            made += asked


SOME = st.sampled_from(["t", "u", "never"])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(SOME, min_size=4, max_size=6),
    st.lists(
        st.tuples(st.lists(EDIT, min_size=1, max_size=3), st.integers(1, 4)),
        min_size=2,
        max_size=4,
    ),
)
def test_whatever_the_limit_no_record_loses_its_row_and_none_has_failed_twice(
    texts: list[str], rounds: list[tuple[list[tuple[Any, ...]], int]]
) -> None:
    numbers = count()
    records = [(f"r{next(numbers)}", text) for text in texts]
    with new_book() as book:
        book.run(*records)
        made = dict(records)
        for edits, limit in (*rounds, ([], None)):
            had = {path: path.read_bytes() for path in book.folder.glob("out.*")}
            before = book.votes()
            records = edited(records, edits, numbers)
            book.job = replace(book.job, limit=limit)
            try:
                book.run(*records)
            except SourceError:
                assert limit is not None
                assert {path: path.read_bytes() for path in book.folder.glob("out.*")} == had
                continue
            after, result = book.votes(), book.result
            assert result is not None
            for key, text in records:
                if key in before and made[key] == text:
                    assert after[key] == before[key]
            made = {key: made[key] if before.get(key) == vote else dict(records)[key]
                    for key, vote in after.items()}  # fmt: skip
            assert len(set(after.values())) == len(after) == result.done
            failed = [] if not result.failed else [line["key"] for line in book.lines("failed")]
            assert len(set(failed)) == len(failed) == result.failed
            assert not set(failed) & set(after)
        assert list(after) == [key for key, text in records if text != "never"]
