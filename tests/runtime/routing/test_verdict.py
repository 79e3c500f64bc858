"""An answer is taken when its form, content and confidence hold; otherwise the bad parts are named."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel, Field

from carrara.engines.contract import Choice, Json, Text
from carrara.engines.errors import ContractError
from carrara.engines.request import Completion, Confidence, Limits, Message
from carrara.runtime.routing.accept import Accept
from carrara.runtime.routing.call import LlmCall
from carrara.runtime.routing.verdict import Verdict, judge

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
NORMAL = Accept()
CALL = LlmCall((Message("user", "Who?"),), Json.of(SCHEMA), limits=Limits(max_tokens=9))
GOOD = '{"name": "Ann", "age": 3}'
SURE = Completion(GOOD, confidence=Confidence(0.9, {"/name": 0.9, "/age": 0.9}), engine="d")


def judged(
    text: str = GOOD, accept: Accept | None = NORMAL, call: LlmCall = CALL, **more: Any
) -> Verdict:
    return judge(call, replace(SURE, text=text, **more), accept)


def cause_of(verdict: Verdict) -> str:
    assert verdict.rejection is not None
    return verdict.rejection.cause


def test_a_sound_and_sure_answer_is_taken() -> None:
    verdict = judged()
    assert (verdict.value, verdict.rejection, verdict.report) == (
        {"name": "Ann", "age": 3},
        None,
        None,
    )


def test_a_crooked_form_is_mended_and_the_report_kept() -> None:
    verdict = judged(f"Sure: {GOOD}")
    assert verdict.value == {"name": "Ann", "age": 3}
    assert verdict.report is not None
    assert verdict.report.changed
    assert verdict.text == GOOD


def test_nothing_is_mended_when_repair_is_off() -> None:
    verdict = judged(f"Sure: {GOOD}", call=replace(CALL, repair="off"))
    assert cause_of(verdict) == "form"


def test_every_failing_field_of_a_form_is_named() -> None:
    verdict = judged('{"name": 1, "age": "x"}')
    assert verdict.rejection is not None
    assert verdict.rejection.fields == ("/name", "/age")
    assert len(verdict.faults) == 2


def test_of_an_answer_cut_short_only_certain_repairs_are_taken() -> None:
    assert judged(f"{GOOD}\nThat was ea", stop="length").value is not None
    torn = judged('{"name": "Ann", "age": 3', stop="length")
    assert cause_of(torn) == "cut"
    assert torn.rejection is not None
    assert torn.rejection.reason.startswith("cut off after 9 tokens (max_tokens)")
    unsure = judged(GOOD[:-1], stop="steps")
    assert cause_of(unsure) == "cut"
    assert judged(GOOD, stop="length").rejection is None


def test_no_confidence_saves_a_broken_form() -> None:
    for accept in (Accept(0, 0), None):
        assert cause_of(judged("I do not know", accept)) == "form"


def test_the_steps_own_check_turns_the_value_and_may_refuse_it() -> None:
    def adult(value: dict[str, Any]) -> str:
        if value["age"] < 18:
            raise ValueError("a child")
        return str(value["name"])

    call = replace(CALL, validate=adult)
    assert judged('{"name": "Bo", "age": 40}', call=call).value == "Bo"
    refused = judged(call=call)
    assert (cause_of(refused), refused.faults) == ("content", ("a child",))
    assert cause_of(judged(accept=None, call=call)) == "content"


def test_pydantic_names_the_failing_fields() -> None:
    class Person(BaseModel):
        name: str = Field(min_length=5)
        age: int = Field(gt=5)

    verdict = judged(call=replace(CALL, validate=Person.model_validate))
    assert verdict.rejection is not None
    assert (verdict.rejection.fields, verdict.rejection.whole) == (("/name", "/age"), True)
    assert verdict.faults[1] == "/age: Input should be greater than 5"


def test_a_refusal_may_name_its_paths() -> None:
    class Refusal(ValueError):
        paths = ("/age",)

    def refuse(_: Any) -> Any:
        raise Refusal("too young")

    def refuse_contract(_: Any) -> Any:
        raise ContractError("too young", text="", path="/age")

    for validate in (refuse, refuse_contract):
        verdict = judged(call=replace(CALL, validate=validate))
        assert verdict.rejection is not None
        assert (verdict.rejection.fields, verdict.rejection.whole) == (("/age",), False)


def test_a_fault_in_the_check_itself_is_not_taken_for_a_refusal() -> None:
    with pytest.raises(KeyError):
        judged(call=replace(CALL, validate=lambda value: value["nmae"]))


@pytest.mark.parametrize(
    ("confidence", "reason", "fields", "whole"),
    [
        (Confidence(0.4), "confidence 0.40 is below 0.50 for json", (), False),
        (Confidence(0.4, {"/name": 0.2, "/age": 0.9}), "0.40 is below", ("/name",), False),
        (Confidence(0.4, {"/name": 0.45, "/age": 0.9}), "0.40 is below", ("/name",), False),
        (Confidence(0.2, {"/name": 0.2, "/age": 0.2}), "0.20 is below", ("/name", "/age"), True),
        (
            Confidence(0.8, {"/name": 0.2, "/age": 0.9}),
            "of /name 0.20 is below 0.30",
            ("/name",),
            False,
        ),
    ],
)
def test_a_doubtful_answer_names_its_doubtful_fields(
    confidence: Confidence, reason: str, fields: tuple[str, ...], whole: bool
) -> None:
    rejection = judged(confidence=confidence).rejection
    assert rejection is not None
    assert rejection.cause == "confidence"
    assert reason in rejection.reason
    assert (rejection.fields, rejection.whole) == (fields, whole)


def test_unsure_answers_are_taken_when_no_engine_is_left_or_none_can_tell() -> None:
    assert judged(accept=None, confidence=Confidence(0.01)).rejection is None
    assert judged(confidence=Confidence(None)).rejection is None


def test_the_one_part_of_a_choice_is_its_whole() -> None:
    call = replace(CALL, output=Choice(("yes", "no")))
    rejection = judged("yes", call=call, confidence=Confidence(0.1, {"": 0.1})).rejection
    assert rejection is not None
    assert rejection.whole


def test_free_text_must_not_be_empty_or_loop() -> None:
    call = replace(CALL, output=Text())
    assert cause_of(judged(" \n", None, call)) == "form"
    loop = "and so it went on " * 20
    assert cause_of(judged(loop, call=call)) == "confidence"
    assert judged(loop, None, call).rejection is None
    prose = " ".join(f"word{n}" for n in range(60))
    assert judged(prose, call=call).value == prose


@pytest.mark.parametrize(
    ("found", "needed", "told"),
    [(0.985, 0.99, "0.98 is below 0.99"), (0.98996, 0.99, "0.98996 is below 0.99000")],
)
def test_a_confidence_just_below_is_told_from_what_is_needed(
    found: float, needed: float, told: str
) -> None:
    rejection = judged(accept=Accept(needed, 0.0), confidence=Confidence(found)).rejection
    assert rejection is not None
    assert rejection.reason == f"confidence {told} for json"
    fields = Confidence(1.0, {"/name": found, "/age": 1.0})
    rejection = judged(accept=Accept(0.5, needed), confidence=fields).rejection
    assert rejection is not None
    assert rejection.reason == f"confidence of /name {told}"
