"""The part of a text that an answer is about is known from its question."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.request import Message
from carrara.workflows.trust.answers import Answer
from carrara.workflows.trust.regions import in_order, regions_of


@dataclass(frozen=True)
class Question:
    messages: tuple[Message, ...]


def asked(step: str, text: str) -> Answer:
    return Answer(step, None, call=Question((Message("user", text),)))


@given(st.text(min_size=200, max_size=400), st.integers(0, 100), st.integers(60, 90), st.data())
def test_a_stretch_that_is_shown_is_found(
    text: str, start: int, length: int, data: st.DataObject
) -> None:
    shown = text[start : start + length]
    around = data.draw(st.text(max_size=10))
    answers = [asked("read[0]", f"Read: {around}{shown}"), asked("read[1]", "nothing of it")]
    region, none = regions_of(answers, text)
    assert none is None
    assert region is not None
    assert region[1] - region[0] >= length
    assert text[slice(*region)] in f"Read: {around}{shown}"


def test_parts_that_are_alike_follow_each_other_and_the_whole_text_is_no_part() -> None:
    part = "## Shop\nbread 1.20\nmilk 0.90\nTOTAL 2.10 and thanks for coming\n"
    text = part * 3
    answers = [asked(f"read[{number}]", f"Read {part}") for number in (2, 0, 1)]
    ordered = in_order([*answers, asked("sum", text)])
    assert [answer.step for answer in ordered] == ["read[0]", "read[1]", "read[2]", "sum"]
    size = len(part)
    assert regions_of(ordered, text) == [
        (0, size),
        (size, 2 * size),
        (2 * size, 3 * size),
        None,
    ]


def test_an_answer_without_its_question_has_no_known_part() -> None:
    assert regions_of([Answer("read[0]", 1), Answer("read[1]", 2)], "some text " * 20) == [
        None,
        None,
    ]
