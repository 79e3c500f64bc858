"""The pure decisions: who is asked first and why, and what is tried after an answer that was not taken."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.closed import ClosedEngine
from carrara.engines.contract import Text
from carrara.engines.errors import EngineRefused, LoadingError
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.routing.evidence import Evidence
from carrara.runtime.routing.facts import CallFacts, Candidate
from carrara.runtime.routing.policy import AUTO, Policy, Rule
from carrara.runtime.routing.router import (
    Barred,
    Move,
    Rejection,
    Route,
    is_last,
    next_after,
    route,
)

DIFFUSION = Candidate("diffusion", frozenset({"schema", "choice", "drafts"}), 2048)
AR = Candidate("ar", frozenset({"schema", "logprobs"}), 8192)
BOTH = {"diffusion": DIFFUSION, "ar": AR}
CALL = CallFacts("flow/step", "json", 100, 200)
DOUBT = Rejection("diffusion", "confidence", "confidence 0.20 is below 0.50", ("/a",))


def names(found: Route) -> list[str]:
    return [engine.name for engine in found.candidates]


def routed(call: CallFacts = CALL, **engines: Candidate) -> Route:
    return route(call, engines or BOTH, AUTO, Evidence())


@pytest.mark.parametrize("kind", ["choice", "json", "table", "outline", "regex", "text"])
def test_every_contract_goes_to_diffusion_first(kind: str) -> None:
    found = routed(replace(CALL, kind=kind))
    assert names(found) == ["diffusion", "ar"]
    assert found.reason


def test_reasoning_goes_to_ar_alone() -> None:
    found = routed(replace(CALL, tags=frozenset({"reasoning"})))
    assert (names(found), found.reason) == (["ar"], "the step is tagged 'reasoning'")


def test_a_prompt_too_long_for_the_canvas_model_goes_to_ar_first() -> None:
    found = routed(replace(CALL, prompt_tokens=3000))
    assert names(found) == ["ar", "diffusion"]
    assert found.reason == "about 3,200 tokens are too long for diffusion, its context holds 2,048"


def test_a_prompt_too_long_for_all_is_left_to_the_engines_to_refuse() -> None:
    assert names(routed(replace(CALL, prompt_tokens=90_000))) == ["diffusion", "ar"]


def test_an_engine_that_cannot_hold_the_contract_is_left_out_with_its_reason() -> None:
    weak = replace(DIFFUSION, refusal="no recursive schemas")
    found = routed(diffusion=weak, ar=AR)
    assert (names(found), found.reason) == (["ar"], "diffusion: no recursive schemas")
    with pytest.raises(EngineRefused, match=r"no engine can answer .*; ar: too wide"):
        routed(diffusion=weak, ar=replace(AR, refusal="too wide"))


def test_the_engine_that_a_step_names_is_the_only_one() -> None:
    found = routed(replace(CALL, engine="ar"))
    assert (names(found), found.reason) == (["ar"], "the step names it")


def test_an_engine_that_is_not_open_is_named_with_those_that_are() -> None:
    with pytest.raises(EngineRefused, match=r"'difusion', open are: diffusion, ar\. Did you mean"):
        routed(replace(CALL, engine="difusion"))
    with pytest.raises(EngineRefused, match="no engine is open"):
        route(CALL, {}, AUTO, Evidence())


def test_without_the_engines_of_the_policy_any_open_one_is_asked_and_that_is_said() -> None:
    found = routed(scripted=Candidate("scripted"))
    assert names(found) == ["scripted"]
    assert found.reason == "typed extraction; diffusion is not open"
    assert routed(ar=AR).reason == "typed extraction; diffusion is not open"
    bare = route(CALL, BOTH, Policy("bare"), Evidence())
    assert (names(bare), bare.reason) == (["diffusion", "ar"], "policy 'bare' has no rule for it")


def test_an_engine_is_closed_by_what_it_says_of_itself_not_by_the_words_of_its_refusal() -> None:
    closed = ClosedEngine("ar", LoadingError("no weights"))
    open_one = ScriptedEngine("ar", {})
    told = "not open: to tables"
    assert Candidate.of("ar", closed, Text(), "gone").is_closed
    assert not Candidate.of("ar", open_one, Text(), told).is_closed
    diffusion, server = BOTH["diffusion"], Candidate("openai")
    picky = replace(AR, refusal=told)
    assert names(routed(diffusion=diffusion, ar=picky, openai=server)) == ["diffusion"]
    shut = replace(picky, is_closed=True)
    assert names(routed(diffusion=diffusion, ar=shut, openai=server)) == ["diffusion", "openai"]


def test_a_server_stands_in_for_the_ar_engine_that_is_not_open() -> None:
    server, other = Candidate("openai"), Candidate("fast")
    diffusion = BOTH["diffusion"]
    assert names(routed(diffusion=diffusion, openai=server)) == ["diffusion", "openai"]
    assert names(routed(diffusion=diffusion, openai=server, fast=other)) == [
        "diffusion",
        "openai",
        "fast",
    ]
    assert names(routed(**BOTH, openai=server)) == ["diffusion", "ar"]
    reasoning = replace(CALL, tags=frozenset({"reasoning"}))
    found = route(reasoning, {"diffusion": diffusion, "openai": server}, AUTO, Evidence())
    assert names(found) == ["openai"]


def test_an_engine_outside_the_default_policy_answers_when_it_is_named_or_alone() -> None:
    verified = Candidate("verified", frozenset({"schema"}), 2048)
    three = {**BOTH, "verified": verified}
    bare = route(CALL, three, Policy("bare"), Evidence())
    assert names(bare) == ["diffusion", "ar"]
    named = route(CALL, three, Policy("named", (Rule(("verified", "ar")),)), Evidence())
    assert names(named) == ["verified", "ar"]
    assert names(route(replace(CALL, engine="verified"), three, AUTO, Evidence())) == ["verified"]
    assert names(routed(verified=verified)) == ["verified"]


def test_a_hopeless_engine_is_passed_over_and_the_reason_says_so() -> None:
    evidence = Evidence()
    for _ in range(4):
        evidence.note(CALL.path, "diffusion", False, 0.21)
    found = route(CALL, BOTH, AUTO, evidence)
    assert (names(found), found.passed_over) == (["ar"], ("diffusion",))
    assert found.reason == (
        "diffusion rejected 4 of 4 for this step (median confidence 0.21): ar at once"
    )
    alone = route(replace(CALL, engine="diffusion"), BOTH, AUTO, evidence)
    assert names(alone) == ["diffusion"]


def after(rejection: Rejection, *hows: str, call: CallFacts = CALL, **policy: Any) -> Move | None:
    history = [Move(rejection.engine, "", how) for how in hows or ("ask",)]  # type: ignore[arg-type]
    return next_after(rejection, history, call, routed(), replace(AUTO, **policy))


def test_doubtful_fields_are_re_noised_once_and_then_ar_is_asked() -> None:
    move = after(DOUBT)
    assert move == Move("diffusion", f"re-noise /a: {DOUBT.reason}", "renoise", ("/a",))
    assert after(DOUBT, "ask", "renoise") == Move("ar", f"diffusion: {DOUBT.reason}")


def test_fields_are_left_to_the_next_engine_where_re_noising_does_not_pay() -> None:
    history = [Move("diffusion", "")]
    move = next_after(DOUBT, history, CALL, routed(), AUTO, "not re-noised, 0 of 2 were taken")
    assert move is not None
    assert (move.engine, move.spared) == ("ar", True)
    assert move.reason == f"diffusion: {DOUBT.reason}; not re-noised, 0 of 2 were taken"
    alone = next_after(DOUBT, history, CALL, routed(diffusion=DIFFUSION), AUTO, "in vain")
    assert alone is not None
    assert alone.how == "renoise"


@pytest.mark.parametrize(
    ("rejection", "more"),
    [
        (replace(DOUBT, fields=()), {}),
        (replace(DOUBT, whole=True), {}),
        (DOUBT, {"renoise": 0}),
        (DOUBT, {"call": replace(CALL, repair="structural")}),
        (DOUBT, {"call": replace(CALL, repair="off")}),
        (replace(DOUBT, cause="failed", fields=()), {}),
    ],
)
def test_what_cannot_be_re_noised_goes_to_ar(rejection: Rejection, more: dict[str, Any]) -> None:
    move = after(rejection, **more)
    assert move is not None
    assert (move.engine, move.how) == ("ar", "ask")


def test_an_engine_without_drafts_is_never_asked_to_refine() -> None:
    plain = replace(DIFFUSION, can=frozenset())
    found = routed(diffusion=plain, ar=AR)
    move = next_after(DOUBT, [Move("diffusion", "")], CALL, found, AUTO)
    assert move is not None
    assert move.engine == "ar"


@pytest.mark.parametrize("cause", ["form", "content"])
def test_the_last_engine_is_asked_once_more_with_its_faults(cause: Any) -> None:
    fault = Rejection("ar", cause, "not JSON")
    assert after(fault) == Move("ar", "once more, with its faults: not JSON", "again")
    assert after(fault, "ask", "again") is None
    assert after(fault, call=replace(CALL, repair="infill")) is None


@pytest.mark.parametrize("cause", ["cut", "refused", "failed"])
def test_what_a_second_try_cannot_mend_ends_the_call(cause: Any) -> None:
    assert after(Rejection("ar", cause, "no")) is None


def test_a_call_that_broke_off_is_made_once_more_as_it_was() -> None:
    fault = Rejection("ar", "failed", "the stream was cut", passing=True)
    history = [Move("ar", "", "fields", ("/a",))]
    move = next_after(fault, history, CALL, routed(), AUTO)
    assert move == Move("ar", "once more: the stream was cut", "fields", ("/a",), tries=1)
    assert next_after(fault, [*history, move], CALL, routed(), AUTO) is None
    assert next_after(fault, history, CALL, routed(), replace(AUTO, again=0)) is None
    first = replace(fault, engine="diffusion")
    other = next_after(first, [Move("diffusion", "")], CALL, routed(), AUTO)
    assert other == Move("ar", "diffusion: the stream was cut")
    pays = next_after(first, [Move("diffusion", "")], CALL, routed(), AUTO, once_more_pays=True)
    assert pays == Move("diffusion", "once more: the stream was cut", tries=1)
    assert next_after(first, [pays], CALL, routed(), AUTO, once_more_pays=True) == other


def test_only_the_last_candidate_takes_unsure_answers() -> None:
    found = routed()
    assert (is_last("diffusion", found), is_last("ar", found)) == (False, True)


CAUSES = st.sampled_from(
    ["form", "cut", "content", "confidence", "refused", "failed", "busy", "passed over"]
)


@given(
    st.lists(st.tuples(CAUSES, st.booleans(), st.booleans()), min_size=30, max_size=30),
    st.integers(1, 8),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from(["off", "structural", "infill", "escalate"]),
    st.integers(1, 4),
)
def test_a_call_always_ends_within_its_attempts_and_never_goes_back(
    fates: list[tuple[Any, bool, bool]],
    most: int,
    renoise: int,
    again: int,
    repair: Any,
    count: int,
) -> None:
    engines = tuple(Candidate(f"e{n}", frozenset({"drafts"})) for n in range(count))
    found = Route(engines, "")
    policy = Policy(rules=(Rule(("e0",)),), max_attempts=most, renoise=renoise, again=again)
    call = replace(CALL, repair=repair)
    history = [Move("e0", "")]
    for cause, has_fields, whole in fates:
        fields = ("/a",) if has_fields else ()
        rejection = Rejection(history[-1].engine, cause, "", fields, whole)
        move = next_after(rejection, history, call, found, policy)
        if move is None:
            break
        assert int(move.engine[1:]) >= int(history[-1].engine[1:])
        history.append(move)
    assert len(history) <= most
    assert sum(move.how == "again" for move in history) <= again


def test_an_engine_that_was_passed_over_leaves_the_attempt_to_the_next() -> None:
    found = Route((DIFFUSION, AR), "typed extraction")
    passed = Rejection("diffusion", "passed over", "it keeps failing")
    move = next_after(passed, [], CALL, found, replace(AUTO, max_attempts=1))
    assert move == Move("ar", "diffusion: it keeps failing")


def test_only_what_is_left_out_behind_the_last_engine_is_missing() -> None:
    def missing(**barred: str) -> str:
        return route(CALL, BOTH, AUTO, Evidence(), Barred(broken=barred)).missing

    assert missing(ar="ar keeps failing") == "ar keeps failing"
    assert missing(diffusion="it keeps failing") == missing() == ""
    assert missing(diffusion="it keeps failing", ar="ar keeps failing") == ""
