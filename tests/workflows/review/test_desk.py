"""Keys in, decisions out: what is written, what is refused, where a review goes on."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carrara.engines.adapt.rows import read_rows
from carrara.workflows.labelled import labelled
from carrara.workflows.places import OutputError
from carrara.workflows.review.decisions import Decisions
from carrara.workflows.review.desk import Desk
from carrara.workflows.review.rows import ReviewError, read_review
from carrara.workflows.review.validating import Validators
from carrara.workflows.target import load_workflow

Files = Callable[..., Path]


def desk_of(path: Path) -> Desk:
    rows = read_review(path)
    return Desk(rows, Decisions(path, rows))


def press(desk: Desk, *keys: str) -> Desk:
    for key in keys:
        desk.press(key)
    return desk


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_accepted_edited_and_rejected_rows_are_written_at_once(review_file: Files) -> None:
    path = review_file("a", "b", "c")
    desk = press(desk_of(path), "a")
    decided, gold = desk.decisions.decided, desk.decisions.labelled
    assert [line["decision"] for line in lines(decided)] == ["accepted"]
    press(desk, "e", "clear", *"1300", "enter", "a")
    assert [line["gold"]["total"] for line in lines(gold)] == [1200.5, 1300]
    press(desk, "r")
    assert desk.ended
    assert [line["decision"] for line in lines(decided)] == ["accepted", "edited", "rejected"]
    assert [line["id"] for line in lines(gold)] == ["a", "b"]


def test_a_decimal_is_text_in_its_row_and_a_number_to_the_model(review_file: Files) -> None:
    row = {"answer": {"shop": "Corner Shop", "total": "1200.50"}}
    desk = press(desk_of(review_file("a", row=row)), "a")
    (labelled_line,) = lines(desk.decisions.labelled)
    assert labelled_line["gold"] == row["answer"]
    assert labelled_line["response"]["total"] == 1200.5


def test_labelled_rows_are_taken_by_evaluation_and_by_training(review_file: Files) -> None:
    desk = press(desk_of(review_file("a")), "e", "clear", *"7", "enter", "a")
    (record,) = labelled(str(desk.decisions.labelled))
    assert record.key == "a"
    assert record.fields["gold"] == {"shop": "Corner Shop", "total": 7}
    assert record.fields["text"].startswith("Corner")
    (row,) = read_rows(desk.decisions.labelled)
    assert row.value == record.fields["gold"]
    assert row.messages[0].content.startswith("Read: Corner")


def test_training_passes_over_rows_that_are_not_one_answer(review_file: Files) -> None:
    path = review_file("a", "b")
    lessons = lines(path)
    lessons[0]["lesson"] = None
    path.write_text("".join(json.dumps(line) + "\n" for line in lessons))
    desk = press(desk_of(path), "a", "a")
    assert len(list(labelled(str(desk.decisions.labelled)))) == 2
    assert len(list(read_rows(desk.decisions.labelled))) == 1


def test_a_review_goes_on_at_the_first_undecided_row(review_file: Files) -> None:
    path = review_file("a", "b", "c")
    press(desk_of(path), "s", "a", "q")
    desk = desk_of(path)
    assert desk.current.key == "a"
    press(desk, "a")
    assert desk.current.key == "c"
    press(desk, "b", "r")  # back to b, which was accepted: decided anew
    assert [d["decision"] for d in lines(desk.decisions.decided)] == ["rejected", "accepted"]


def test_what_breaks_the_contract_is_refused_and_told(review_file: Files) -> None:
    desk = press(desk_of(review_file("a")), "e", "clear", *"many", "enter")
    assert (desk.wrong, desk.said) == (True, "'many' is no float in JSON")
    press(desk, "clear", *'"x"', "enter")
    assert desk.wrong
    assert "total" in desk.said
    assert desk.editing is not None
    press(desk, "escape", "up", "e", "clear", *"null", "enter")
    assert desk.wrong  # the shop is no text then
    assert not desk.decisions.decided.exists()


def test_edits_can_be_taken_back(review_file: Files) -> None:
    desk = press(desk_of(review_file("a")), "e", *["backspace"] * 2, "home", "9", "enter")
    assert desk.row["answer"]["total"] == 91200
    assert press(desk, "u").row == desk.current.row


def test_a_decision_that_cannot_be_written_is_an_error(review_file: Files, tmp_path: Path) -> None:
    desk = desk_of(review_file("a"))
    desk.decisions.decided = tmp_path / "gone" / "out.decided.jsonl"
    with pytest.raises(OutputError, match="cannot write"):
        press(desk, "a")


@pytest.mark.parametrize(
    "changed",
    [{"row": {"answer": {"shop": "Shop", "total": 1}}}, {"inputs": {"text": "another"}}],
    ids=["row", "inputs"],
)
def test_a_decision_counts_for_the_row_that_it_was_made_on(
    review_file: Files, changed: dict[str, Any]
) -> None:
    path = review_file("a", "b")
    press(desk_of(path), "e", "clear", *"7", "enter", "a")
    whole = lines(path)
    whole[0] |= changed
    path.write_text("".join(json.dumps(line) + "\n" for line in whole))
    desk = desk_of(path)
    assert (desk.current.key, desk.decisions["a"], desk.decisions.outdated) == ("a", None, 1)
    assert desk.said == "1 row has changed since the decision: decide again"
    assert desk.row == whole[0]["row"]
    press(desk, "s", "a")
    assert [line["id"] for line in lines(desk.decisions.labelled)] == ["b"]
    press(desk, "a")
    assert desk.decisions.outdated == 0
    gold = {line["id"]: line["gold"] for line in lines(desk.decisions.labelled)}
    assert gold["a"] == whole[0]["row"]["answer"]


def test_a_labelled_row_stays_when_its_row_is_not_up_for_review_any_more(
    review_file: Files,
) -> None:
    path = review_file("a", "b", "c", "d")
    press(desk_of(path), "a", "e", "clear", *"7", "enter", "a", "r", "q")
    before = lines(path.with_name("out.labelled.jsonl"))
    assert [line["id"] for line in before] == ["a", "b"]
    review_file("a", "d")  # the job has become sure of b and c
    desk = press(desk_of(path), "a")
    assert desk.ended
    after = lines(desk.decisions.labelled)
    assert after[:2] == before
    assert [line["id"] for line in after] == ["a", "b", "d"]
    review_file("b", inputs={"text": "another"})
    press(desk_of(path), "a")
    texts = {line["id"]: line["text"] for line in lines(desk.decisions.labelled)}
    assert (sorted(texts), texts["b"]) == (["a", "b", "d"], "another")


def test_labelled_rows_that_cannot_be_read_are_an_error_before_anything_is_decided(
    review_file: Files,
) -> None:
    path = review_file("a")
    path.with_name("out.labelled.jsonl").write_text('{"id": "b"}\n{"id":')
    with pytest.raises(ReviewError, match=r"out\.labelled\.jsonl:2: no line of a review"):
        desk_of(path)


CHECKED = """
name: checked
inputs: {text: str}
types:
  Bill: {shop: str, total: float?}
steps:
  answer:
    llm: "Read: {{ text }}"
    returns: Bill
    validators: ["./review_checks.py:known", "./review_checks.py:stands_there"]
outputs: {answer: "{{ answer }}"}
"""
CHECKS = """
def known(bill):
    if bill.total is not None and bill.total > 2000:
        raise ValueError(f"{bill.total:g} is too much")


def stands_there(bill, text):
    return bill.shop in text
"""


def test_an_edited_row_is_held_to_the_validators_of_its_step(
    review_file: Files, tmp_path: Path
) -> None:
    (tmp_path / "review_checks.py").write_text(CHECKS)
    (tmp_path / "checked.yaml").write_text(CHECKED)
    path = review_file("a", "b")
    whole = lines(path)
    for line in whole:
        line["lesson"]["validated_by"] = "answer"
    path.write_text("".join(json.dumps(line) + "\n" for line in whole))
    rows = read_review(path)
    validators = Validators(load_workflow(str(tmp_path / "checked.yaml")))
    desk = Desk(rows, Decisions(path, rows), validators)
    press(desk, "e", "clear", *"9000", "enter")
    assert not desk.wrong  # another edit may make it right
    press(desk, "a")
    assert (desk.wrong, desk.said) == (True, "step 'answer' refuses it: 9000 is too much")
    press(desk, "e", "clear", *"1999", "enter", "k", "e", "clear", *"Elsewhere", "enter", "a")
    assert (desk.wrong, desk.said) == (
        True,
        "step 'answer' refuses it: refused by 'stands_there'",
    )
    assert not desk.decisions.decided.exists()
    press(desk, "e", "clear", *"Shop", "enter", "a")
    assert [line["gold"] for line in lines(desk.decisions.labelled)] == [
        {"shop": "Shop", "total": 1999}
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [("", "no row to review"), ("{}\n", "jsonl:1: not a row"), ("\n[1", "jsonl:2: not JSON")],
)
def test_files_that_are_no_review_are_refused(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "x.review.jsonl"
    path.write_text(content)
    with pytest.raises(ReviewError, match=told):
        read_review(path)


KEYS = st.sampled_from(
    ["a", "e", "s", "b", "u", "up", "down", "left", "right", "enter", "escape", "backspace", "tab", "7", ""]
)  # fmt: skip


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(KEYS, max_size=25))
def test_whatever_is_pressed_every_written_row_holds_to_its_contract(
    review_file: Files, keys: list[str]
) -> None:
    path = review_file("a", "b", "c")
    for beside in path.parent.glob("out.[dl]*"):
        beside.unlink()
    desk = desk_of(path)
    for key in keys:
        if desk.ended:
            break
        desk.press(key)
    if desk.decisions.labelled.exists():
        rows = lines(desk.decisions.labelled)
        assert all(isinstance(row["gold"]["shop"], str) for row in rows)
        assert len({row["id"] for row in rows}) == len(rows)
        assert list(read_rows(desk.decisions.labelled))
        assert stat.S_ISREG(desk.decisions.labelled.stat().st_mode)
