"""What travels between processes arrives as what it was."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from carrara.engines.contract import Choice, Json, Text
from carrara.engines.errors import (
    ContextOverflow,
    EngineBusy,
    EngineDown,
    EngineError,
    EngineFailed,
    StreamCut,
)
from carrara.engines.request import (
    Completion,
    Confidence,
    Draft,
    Limits,
    Message,
    Request,
    Rule,
    Sampling,
    Usage,
)
from carrara.runtime.errors import StepError
from carrara.runtime.events import Accepted, StepStarted, ValueShown
from carrara.runtime.routing.call import LlmCall
from carrara.workflows.batch import Outcome
from carrara.workflows.cluster.wire import (
    completion_from_text,
    completion_text,
    failure_text,
    outcome_from,
    outcome_text,
    record_from,
    record_text,
    request_from,
    request_text,
)
from carrara.workflows.digits import Digits, as_decimals, as_floats
from carrara.workflows.records import Record


@pytest.mark.parametrize("kind", [EngineDown, EngineBusy])
def test_that_an_engine_is_down_is_known_to_the_driver(kind: type[EngineError]) -> None:
    error = StepError("failed", run="r", step="s", index=None, attempt=1)
    error.__cause__ = kind("engine 'e' is gone")
    record = Record(3, "k", "w", {}, None)
    told = outcome_from(outcome_text(Outcome(record, None, error, 0.5), str, []), str)
    assert told.error is not None
    chain = [told.error, told.error.__cause__]
    while chain[-1] is not None:
        chain.append(chain[-1].__cause__)
    assert any(isinstance(one, kind) and str(one) == "engine 'e' is gone" for one in chain)


class Receipt(BaseModel):
    shop: str
    total: Decimal
    day: date | None


texts = st.text(max_size=8)
fields = st.dictionaries(texts, st.none() | st.integers() | texts | st.lists(texts, max_size=2))
records = st.builds(Record, st.integers(0, 2**40), texts, texts, fields, st.none() | texts)
requests = st.builds(
    Request,
    st.tuples(st.builds(Message, st.sampled_from(["system", "user"]), texts)),
    st.sampled_from([Text(), Choice(("a", "b")), Json('{"type":"integer"}')]),
    st.builds(
        Limits, st.integers(1, 9), st.none() | st.integers(1, 9), st.none() | st.floats(0, 9)
    ),
    st.builds(Sampling, st.floats(0, 2), st.floats(0.1, 1), st.none() | st.integers()),
    st.lists(texts, max_size=2).map(tuple),
    st.floats(-9, 9),
    st.none() | st.builds(Draft, texts, st.just(("/a",)), st.just(0.5), st.just(((0, 1),))),
    st.none() | texts,
    st.none() | st.just(Rule("confidence", {"threshold": 0.5})),
)


@given(records)
def test_records(record: Record) -> None:
    assert record_from(record_text(record)) == record


@given(
    st.lists(
        st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?(e[+-]?[0-9]{1,25})?", fullmatch=True)
    )
)
def test_numbers_arrive_with_their_digits(written: list[str]) -> None:
    numbers = json.loads(f"[{', '.join(written)}]", parse_float=Digits)
    record = Record(0, "a", "in.jsonl:1", {"numbers": numbers, "in": {"one": numbers}})
    arrived = record_from(record_text(record)).fields
    assert as_decimals(arrived) == as_decimals(record.fields)
    assert [str(part) for part in as_decimals(arrived)["numbers"]] == [
        str(part) for part in as_decimals(numbers)
    ]
    assert as_floats(arrived) == as_floats(record.fields)


@given(requests)
def test_requests(request: Request) -> None:
    assert request_from(request_text(request)) == request


def test_completions_and_errors() -> None:
    done = Completion("3", 3, Confidence(0.5, {"": 0.5}, (0.5,)), Usage(1, 0, 2, 3), engine="e")
    contract = Json('{"type":"integer"}')
    assert completion_from_text(completion_text(done), "e", contract) == done
    busy = EngineBusy("full", engine="e", retry_after_s=2.5)
    over = ContextOverflow("too long", engine="e")
    cut = StreamCut("cut", engine="e", text="half")
    cut.phase, cut.status = "read", 200
    broken = EngineFailed("broken", engine="e")
    broken.status, broken.retry_after_s = 500, 2.5
    for error in (busy, over, cut, broken):
        with pytest.raises(type(error)) as raised:
            completion_from_text(failure_text(error), "e", contract)
        assert type(raised.value) is type(error)
        for fact in ("args", "engine", "phase", "status", "retry_after_s", "text"):
            assert getattr(raised.value, fact, None) == getattr(error, fact, None)


def test_an_error_that_is_not_known_here_is_a_failure_of_the_engine() -> None:
    text = failure_text(EngineFailed("x")).replace('"EngineFailed"', '"ContractError"')
    with pytest.raises(EngineFailed):
        completion_from_text(text, "e", Text())


RECORD = Record(7, "k", "in.jsonl:8", {"text": "t"})


def back(outcome: Outcome, returns: Any = None, *events: Any) -> Any:
    return outcome_from(outcome_text(outcome, returns, events), returns)


def test_values_keep_their_types() -> None:
    value = Receipt(shop="a", total=Decimal("1.50"), day=date(2026, 1, 2))
    told = back(Outcome(RECORD, value, None, 0.5), Receipt)
    assert told.value == value
    assert type(told.value.total) is Decimal
    assert (told.place, told.error, told.seconds) == (7, None, 0.5)


def test_errors_keep_step_and_raw_text() -> None:
    cause = StreamCut("cut", text="raw")
    error = StepError.of(cause, run="r", step="a/record[7]/b", index=7, attempt=2)
    found = back(Outcome(RECORD, None, error, 0.1)).error
    assert isinstance(found, StepError)
    assert (str(found), found.run, found.step, found.index) == (str(error), "r", error.step, 7)
    assert found.__cause__.text == "raw"  # type: ignore[union-attr]


def test_a_value_that_cannot_travel_fails_its_record() -> None:
    told = back(Outcome(RECORD, lambda: None, None, 0.1))
    assert "cannot be sent from the worker" in str(told.error)


def test_events_come_along_with_what_trust_needs_of_them() -> None:
    started = StepStarted("r", 1.0, "a/record[7]/b", 3, 2)
    accepted = Accepted("r", 2.0, "a/record[7]/b", 3, "ar", 0.5, {"/x": 0.25}, {}, {"": ["quotes"]})
    call = LlmCall((Message("user", "q"),), Choice(("a",)), limits=Limits(3))
    shown = ValueShown("r", 3.0, "a/record[7]/b", 3, Decimal("1.5"), False, call)
    found = back(Outcome(RECORD, 1, None, 0.1), None, started, accepted, shown).events
    assert found[:2] == [started, accepted]
    assert (found[2].call.messages, found[2].call.output) == (call.messages, call.output)
    assert found[2].value == "1.5" or found[2].value == 1.5
    assert replace(found[2], call=None, value=None) == replace(shown, call=None, value=None)
