"""What holds for every text: edits replay and revert, repairing twice is repairing once, no word is lost."""

from __future__ import annotations

import random
import re
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.engines.errors import CarraraError
from carrara.runtime.repair import RepairFailed, RepairPolicy, check, repair, repair_text
from carrara.runtime.repair.edits import composed, replay
from carrara.runtime.repair.report import Edit
from tests.runtime.repair.fuzz import ALPHABET, KINDS, PIECES, damaged
from tests.runtime.repair.invariants import broken_invariant
from tests.runtime.repair.material import CLEAN

TROUBLE = st.lists(st.sampled_from([*PIECES, *ALPHABET]), max_size=40).map("".join)


@pytest.mark.parametrize(("kind", "text"), CLEAN)
def test_a_sound_document_is_the_same_object(kind: str, text: str) -> None:
    report = repair(text, kind)
    assert report.text is text
    assert (report.ok, report.edits, report.proposals, report.holes) == (True, (), (), ())
    assert repair_text(text, kind) is text
    assert check(text, kind) == ()


@given(st.sampled_from(CLEAN), st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_a_damaged_document_keeps_the_invariants(found: tuple[str, str], seed: int) -> None:
    kind, text = found
    assert broken_invariant(damaged(text, random.Random(seed)), kind) is None


@given(TROUBLE | st.text(max_size=60), st.sampled_from(KINDS))
@settings(max_examples=300, deadline=None)
def test_any_text_keeps_the_invariants(text: str, kind: str) -> None:
    assert broken_invariant(text, kind) is None


@given(st.sampled_from(CLEAN), st.integers(0, 2**32), st.sampled_from(["\r\n", "\r"]))
@settings(max_examples=60, deadline=None)
def test_newlines_of_all_kinds_are_kept(found: tuple[str, str], seed: int, newline: str) -> None:
    kind, text = found
    text = damaged(text, random.Random(seed)).replace("\n", newline)
    assert broken_invariant(text, kind) is None


CODE = "```text\n| a || b\n|--|\n- [x]y\n1. a\n1. b\n2. c\n#x\n{'a': 1,}\n```"


@given(
    st.sampled_from([t for k, t in CLEAN if k != "json" and "```" not in t]), st.integers(0, 2**32)
)
@settings(max_examples=100, deadline=None)
def test_code_is_never_touched(text: str, seed: int) -> None:
    broken = f"{damaged(text, random.Random(seed)).replace('`', '').replace('~', '')}\n\n{CODE}\n\n{text}"
    if broken.count("<!--") or broken.count("$$") % 2 or broken.lstrip().startswith("---"):
        return
    assert CODE in repair_text(broken, "mixed")


@given(st.text("ab\n|", max_size=30), st.data())
@settings(max_examples=200, deadline=None)
def test_edits_of_edits_are_edits_of_the_source(source: str, data: st.DataObject) -> None:
    first = data.draw(edits_of(source))
    middle = replay(source, first)
    second = data.draw(edits_of(middle))
    both = composed(source, first, second)
    assert replay(source, both) == replay(middle, second)
    assert all(a.end <= b.start for a, b in pairwise(both))
    assert all(source[e.start : e.end] == e.before for e in both)


@st.composite
def edits_of(draw: st.DrawFn, text: str) -> tuple[Edit, ...]:
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))
    found, last = [], -1
    for start, end in zip(cuts[::2], cuts[1::2], strict=False):
        if start <= last:
            continue
        last = end
        after = draw(st.text("xy", max_size=3))
        found.append(Edit(start, end, text[start:end], after, f"r{len(found)}", "why"))
    return tuple(found)


@pytest.mark.parametrize("kind", ["json", "mixed", "table", "list"])
@pytest.mark.parametrize(
    "text",
    [
        "[" * 10_000,
        "{" * 10_000 + "}" * 9_999,
        '{"a":' * 5_000,
        "\0" * 1000 + '{"a": \0 1',
        "> " * 3_000 + "- x",
        "- " * 3_000,
        "`" * 20_000 + "|" * 20_000,
        '"' * 20_000,
        "| " * 20_000 + "\n|-|\n",
        "\ud800 lone | surrogate\n|--|\n",
        '{"a": "\ud800", "b": \udfff,}',
        "\0" * 1000 + "| a\0 | b |\r\n|---|\r- x\0\n",
        '{"a": "' + '\\"' * 100_000 + '" "b": 1}',
        '["' + "“x " * 60_000,
        '{"a": "' + "x" * 200_000 + '" "b": 1}',
    ],
    ids=lambda text: repr(text[:8]),
)
def test_nothing_overflows_or_hangs(text: str, kind: str) -> None:
    began = time.process_time()
    again = repair_text(text, kind)
    assert repair_text(again, kind) == again
    assert time.process_time() - began < 10


FOUND = [  # by fuzzing
    ("auto", '<|mdm_mask|>[\n  {"id": 2,#  "text": "x",\n "t": []}\n]  }\n]\n'),
    ("json", '{"u": "org/<|mdm_m[MASK]ask|>a//b" "中": "：，"}'),
    ("json", '[{"id": 2<|mdm_mask   "id": 2<|mdm_mask|>,\n "tags": []}]'),
    ("json", "[[[[[[[[[[" + '"a": ' * 300),
]


@pytest.mark.parametrize(("kind", "text"), FOUND)
def test_what_once_broke_an_invariant_does_so_no_more(kind: str, text: str) -> None:
    assert broken_invariant(text, kind) is None


PATTERNS = [
    ("json", '{"a": "x" "b": [1, 2}, '),
    ("json", '{"a": "x\n'),
    ("json", "{a: 'b', "),
    ("mixed", "| a | b |\n|---|\n| 1 || 2 |\n\n"),
    ("table", "| a | b\n"),
    ("list", "1. a\n  - b\n* c\n"),
    ("mixed", "```\ncode\n``\n\n## H\n\n"),
    ("mixed", "word | "),
]


@pytest.mark.parametrize(("kind", "piece"), PATTERNS)
def test_ten_times_the_text_takes_no_more_than_some_tens_of_times_as_long(
    kind: str, piece: str
) -> None:
    """The exact figures are in benchmarks/repair.py; here a quadratic rule would take a hundred times as long."""
    small, large = (piece * (size // len(piece)) for size in (6_000, 60_000))
    took = []
    for text in (small, large):
        rounds = []
        for _ in range(2):
            began = time.process_time()
            repair_text(text, kind)
            rounds.append(time.process_time() - began)
        took.append(min(rounds))
    assert took[1] < 40 * max(took[0], 0.002)


def test_edits_below_the_policys_certainty_are_proposed_not_made() -> None:
    text = "| a | b |\n|---|---|\n| 1 | 2 |\nText below.\n"
    strict = repair(text, "mixed", policy=RepairPolicy(min_certainty="certain"))
    assert (strict.text, strict.ok) == (text, False)
    assert [edit.rule for edit in strict.proposals] == ["text_below"]
    assert replay(text, strict.proposals) == repair(text, "mixed").text
    broken = '{"a": [1, 2}'
    assert repair(broken, "json", policy=RepairPolicy(min_certainty="certain")).proposals


def test_a_rule_can_be_left_out_by_its_name() -> None:
    text = "1. a\n2. b\n2. c\n"
    assert repair(text, "list", policy=RepairPolicy(without=frozenset({"numbering"}))).text == text
    assert repair(text, "list").text == "1. a\n2. b\n3. c\n"


def test_a_policy_can_ask_for_an_error() -> None:
    with pytest.raises(RepairFailed, match="/a: its value is lost") as caught:
        repair('{"a": }', "json", policy=RepairPolicy(on_fail="raise"))
    assert caught.value.report.text == '{"a": null }'
    with pytest.raises(CarraraError, match="min_certainty is one of"):
        RepairPolicy(min_certainty="sure")  # type: ignore[arg-type]


def test_the_report_says_what_was_wrong_and_where() -> None:
    text = "# T\n\n| a | b |\n|---|\n| 1 | 2 |\n"
    report = repair(text, "mixed")
    assert [(p.line, p.rule) for p in report.problems_before] == [(4, "delim_short")]
    assert [p.reason for p in check(text, "mixed")] == [p.reason for p in report.problems_before]
    data = report.to_dict()
    assert data["edits"][0]["rule"] == "delim_short"
    assert re.fullmatch(r"\d+\.\d+(e-\d+)?", str(data["seconds"]))
