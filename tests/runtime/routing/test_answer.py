"""An LLM step is answered by the first engine whose answer holds, every decision is told, and nothing crooked
comes through."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.engines.contract import Choice, Column, Contract, Json, Outline, Regex, Table
from carrara.engines.errors import (
    EngineBusy,
    EngineError,
    EngineFailed,
    EngineRefused,
    EngineTimeout,
    StreamCut,
)
from carrara.engines.facts import EngineFacts
from carrara.engines.markdown import render_outline, render_table
from carrara.engines.remote.faults import placed
from carrara.engines.request import (
    Completion,
    Confidence,
    Limits,
    Message,
    Request,
    Sampling,
    Usage,
)
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.cassette import Cassette, CassetteMiss
from carrara.runtime.events import (
    Accepted,
    DraftShown,
    EngineAnswered,
    EngineCalled,
    Escalated,
    PutOff,
    Rejected,
    Repaired,
    Routed,
    ValueShown,
)
from carrara.runtime.limits import EngineGate, EngineLimits
from carrara.runtime.routing.accept import Accept
from carrara.runtime.routing.answer import AnswerError, AnswerTimeout, LlmCall, answer
from carrara.runtime.routing.asking import Asking
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.policy import AUTO, Policy, Rule
from carrara.runtime.single_flight import SingleFlight

Ask = Callable[..., Any]
Context = Callable[..., Any]
YES = Choice(("yes", "no"))
PERSON = Json.of(
    {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
)
ANN = '{"name": "Ann", "age": 3}'


def diffusion(*replies: Any, **more: Any) -> ScriptedEngine:
    return ScriptedEngine(
        "diffusion", replies, can=["schema", "choice", "drafts", "stream"], **more
    )


def ar(*replies: Any, **more: Any) -> ScriptedEngine:
    return ScriptedEngine("ar", replies, **more)


def sure(text: str, overall: float, **fields: float) -> Completion:
    found = {f"/{name}": value for name, value in fields.items()}
    return Completion(text, confidence=Confidence(overall, found))


def test_a_sure_diffusion_answer_is_taken_and_ar_is_never_asked(context: Context, ask: Ask) -> None:
    ctx = context(diffusion("yes"), ar())
    assert ask(ctx, output=YES) == "yes"
    assert ctx.story() == ["Routed", "EngineCalled", "EngineAnswered", "Accepted", "ValueShown"]
    assert ctx.told(Routed)[0].engine == "diffusion"
    assert ctx.told(Routed)[0].reason == "closed choice"
    assert ctx.told(EngineAnswered)[0].usage.prompt_tokens > 0


def cut(text: str) -> Completion:
    return Completion(text, usage=Usage(10, 0, 8, 8), stop="length")


def test_an_answer_with_a_form_that_a_limit_cut_is_asked_for_once_more_with_more_room(
    context: Context, ask: Ask
) -> None:
    engine = ar(cut('{"name": "An'), ANN)
    ctx = context(engine)
    assert ask(ctx, output=PERSON, limits=Limits(8)) == {"name": "Ann", "age": 3}
    assert [request.limits.max_tokens for request in engine.requests] == [8, 16]
    assert engine.requests[0].messages == engine.requests[1].messages
    assert [event.reason for event in ctx.told(EngineCalled)][1].startswith(
        "once more, with more room: cut off after 8 tokens (max_tokens)"
    )


def test_more_room_is_given_once_and_no_more_than_the_context_has(
    context: Context, ask: Ask
) -> None:
    engine = ar(cut('{"name": "An'), cut('{"name": "Ann, Bo, Cy'), context_tokens=22)
    with pytest.raises(AnswerError, match=r"2\. ar \(longer\): cut off after 12 tokens"):
        ask(context(engine), output=PERSON, limits=Limits(8))
    assert [request.limits.max_tokens for request in engine.requests] == [8, 12]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ('{"name": "' + "la la " * 40, {}),
        ('{"name": "An', {"repair": "infill"}),
        ('{"name": "An', {"limits": Limits(8), "describe": False}),
    ],
    ids=["it loops", "the step does not escalate", "the context is full"],
)
def test_no_more_room_is_given_where(
    context: Context, ask: Ask, text: str, options: dict[str, Any]
) -> None:
    engine = ar(cut(text), context_tokens=9 if "limits" in options else 1_000)
    with pytest.raises(AnswerError):
        ask(context(engine), output=PERSON, **options)
    assert len(engine.requests) == 1


def test_free_text_ends_at_its_limit(context: Context, ask: Ask) -> None:
    engine = ar(cut("Once upon a"))
    assert ask(context(engine), limits=Limits(3)) == "Once upon a"


def test_the_request_carries_urgency_and_the_form_of_the_answer(context: Context, ask: Ask) -> None:
    engine = ar("yes", "yes", "yes")
    ctx = context(engine)
    ask(ctx, output=YES, limits=Limits(max_tokens=5))
    ask(ctx, "Say it. Answer with exactly one of: yes, no.", output=YES)
    ask(ctx, output=YES, describe=False)
    contents = [request.messages[-1].content for request in engine.requests]
    assert contents == [
        "Say it.\n\nAnswer with exactly one of: yes, no.",
        "Say it. Answer with exactly one of: yes, no.",
        "Say it.",
    ]
    assert (engine.requests[0].priority, engine.requests[0].limits.max_tokens) == (2.5, 5)


def test_an_engine_that_holds_the_form_by_construction_is_not_told_of_it(
    context: Context, ask: Ask
) -> None:
    engine = diffusion("yes", "yes")
    ctx = context(engine)
    ask(ctx, output=YES)
    ask(ctx, output=YES, describe=True)
    contents = [request.messages[-1].content for request in engine.requests]
    assert contents == ["Say it.", "Say it.\n\nAnswer with exactly one of: yes, no."]


def test_a_doubtful_answer_goes_on_to_ar_and_each_decision_is_told(
    context: Context, ask: Ask
) -> None:
    ctx = context(diffusion(sure("no", 0.2)), ar(sure("yes", 0.1)))
    assert ask(ctx, output=YES) == "yes"
    assert ctx.story() == [
        "Routed",
        "EngineCalled",
        "EngineAnswered",
        "Rejected",
        "Escalated",
        "EngineCalled",
        "EngineAnswered",
        "Accepted",
        "ValueShown",
    ]
    assert ctx.told(Rejected)[0].reason == "confidence 0.20 is below 0.50 for choice"
    assert ctx.told(Rejected)[0].confidence == 0.2
    escalated = ctx.told(Escalated)[0]
    assert (escalated.origin, escalated.target) == ("diffusion", "ar")


def test_doubtful_fields_are_re_noised_with_the_rest_pinned(context: Context, ask: Ask) -> None:
    first = sure('{"name": "Anx", "age": 3}', 0.8, name=0.1, age=0.9)
    engine = diffusion(first, sure(ANN, 0.9, name=0.8))  # told of the re-noised field alone
    ctx = context(engine, ar())
    assert ask(ctx, output=PERSON) == {"name": "Ann", "age": 3}
    assert ctx.told(Accepted)[0].fields == {"/name": 0.8, "/age": 0.9}
    assert ctx.told(ValueShown)[0].value == {"name": "Ann", "age": 3}
    draft = engine.requests[1].draft
    assert draft is not None
    assert (draft.text, draft.fields) == (first.text, ("/name",))
    assert ctx.told(EngineCalled)[1].reason == (
        "re-noise /name: confidence of /name 0.10 is below 0.30"
    )
    assert not ctx.told(Escalated)


def test_a_validators_refusal_names_the_fields_to_re_noise(context: Context, ask: Ask) -> None:
    class TooYoung(ValueError):
        paths = ("/age",)

    def grown(value: dict[str, Any]) -> dict[str, Any]:
        if value["age"] < 18:
            raise TooYoung("too young")
        return value

    engine = diffusion(ANN, '{"name": "Ann", "age": 33}')
    assert ask(context(engine, ar()), output=PERSON, validate=grown)["age"] == 33
    assert engine.requests[1].draft is not None
    assert engine.requests[1].draft.fields == ("/age",)


def test_the_last_engine_is_shown_its_faults_numbered(context: Context, ask: Ask) -> None:
    engine = ar('{"name": 1, "age": "x"}', ANN)
    ctx = context(engine)
    assert ask(ctx, output=PERSON) == {"name": "Ann", "age": 3}
    turns = engine.requests[1].messages[-2:]
    assert turns[0] == Message("assistant", '{"name": 1, "age": "x"}')
    assert "1. /name: 1 is not of type 'string'\n2. /age: 'x' is not of type" in turns[1].content


def test_when_nothing_holds_the_error_tells_every_answer(context: Context, ask: Ask) -> None:
    ctx = context(diffusion("maybe"), ar("perhaps", "who knows"))
    with pytest.raises(AnswerError) as caught:
        ask(ctx, output=YES)
    error = caught.value
    assert (error.step, error.kind, error.text) == ("flow/step", "choice", "who knows")
    assert [(a.engine, a.how, a.text) for a in error.attempts] == [
        ("diffusion", "ask", "maybe"),
        ("ar", "ask", "perhaps"),
        ("ar", "again", "who knows"),
    ]
    lines = str(error).splitlines()
    assert lines[0] == "step 'flow/step': no acceptable choice answer in 3 attempts."
    assert lines[3] == "  3. ar (again): 'who knows' is none of yes, no"
    assert lines[4] == "Last raw text: 'who knows'"


def test_a_crooked_form_is_repaired_and_told(context: Context, ask: Ask) -> None:
    ctx = context(ar(f"Here you are:\n```json\n{ANN}\n```"))
    assert ask(ctx, output=PERSON) == {"name": "Ann", "age": 3}
    assert ctx.told(Repaired)[0].kind == "json"
    assert (ctx.told(Repaired)[0].edits, ctx.told(Repaired)[0].certainty) == (2, 1.0)


def test_repair_may_be_switched_off(context: Context, ask: Ask) -> None:
    ctx = context(ar("Yes."))
    with pytest.raises(AnswerError):
        ask(ctx, output=YES, repair="off")
    assert len(ctx.resources["engines"]["ar"].requests) == 1


def test_an_engine_that_refuses_or_breaks_is_followed_by_the_next(
    context: Context, ask: Ask
) -> None:
    for error in (EngineRefused("too long", engine="diffusion"), EngineFailed("out of memory")):
        ctx = context(diffusion(error), ar("yes"))
        assert ask(ctx, output=YES) == "yes"
        assert ctx.told(Escalated)[0].reason == str(error)


def test_the_engines_own_error_is_raised_when_nobody_answered(context: Context, ask: Ask) -> None:
    with pytest.raises(EngineFailed, match="broke"):
        ask(context(ar(EngineFailed("broke"))), output=YES)
    both = context(diffusion(EngineRefused("too long")), ar(EngineRefused("too long too")))
    with pytest.raises(
        EngineRefused, match=r"no engine answered\. diffusion: too long; ar: too long"
    ):
        ask(both, output=YES)
    mixed = context(diffusion("maybe"), ar(EngineFailed("broke")))
    with pytest.raises(AnswerError) as caught:
        ask(mixed, output=YES)
    assert caught.value.text == "maybe"


def test_a_short_retry_after_is_waited_for_and_a_long_one_is_left_to_the_step(
    context: Context, ask: Ask
) -> None:
    waiting = context(ar(EngineBusy("full", retry_after_s=0.0), "yes"))
    assert ask(waiting, output=YES) == "yes"
    assert [(one.engine, one.reason, one.wait_s) for one in waiting.told(PutOff)] == [
        ("ar", "full", 0.0)
    ]
    for busy in (EngineBusy("full"), EngineBusy("full", retry_after_s=3600.0)):
        assert ask(context(diffusion(busy), ar("yes")), output=YES) == "yes"
    with pytest.raises(EngineBusy):
        ask(context(ar(EngineBusy("full", retry_after_s=3600.0), "yes")), output=YES)


def test_the_deadline_of_a_call_ends_it_with_what_was_tried(context: Context, ask: Ask) -> None:
    async def never(_: Request) -> str:
        await asyncio.Event().wait()
        return ""

    ctx = context(ScriptedEngine("ar", never))
    with pytest.raises(AnswerTimeout, match="no choice answer within its deadline of 0 s"):
        ask(ctx, output=YES, limits=Limits(deadline_s=0.0))
    assert ctx.resources["engines"]["ar"].in_flight == 0


def test_the_request_is_told_how_much_of_the_deadline_is_left(context: Context, ask: Ask) -> None:
    engine = ar("yes")
    ask(context(engine), output=YES, limits=Limits(deadline_s=500.0))
    left = engine.requests[0].limits.deadline_s
    assert left is not None
    assert 0 < left <= 500


def test_a_poor_engine_is_noticed_passed_over_and_probed(context: Context, ask: Ask) -> None:
    poor = ScriptedEngine("diffusion", lambda _: "no", confidence=0.21)
    good = ScriptedEngine("ar", lambda _: "yes")
    router = Router(Policy(rules=AUTO.rules, give_up_after=4, probe_every=5, choose="order"))
    reasons = []
    for n in range(12):
        ctx = context(poor, good, path=f"flow/step[{n}]", router=router)
        assert ask(ctx, output=YES) == "yes"
        reasons.append(ctx.told(Routed)[0].reason)
    assert reasons[4] == (
        "diffusion rejected 4 of 4 for this step (median confidence 0.21): ar at once"
    )
    assert len(poor.requests) == 5
    assert reasons[8] == "closed choice"


def test_calls_of_one_run_learn_from_each_other_without_a_router(
    context: Context, ask: Ask
) -> None:
    poor = ScriptedEngine("diffusion", lambda _: "no", confidence=0.1)
    ctx = context(poor, ScriptedEngine("ar", lambda _: "yes"))
    for _ in range(10):
        ask(ctx, output=YES)
    assert 1 <= len(poor.requests) <= 4  # fewer where they took long


def test_calls_that_wait_for_a_place_see_what_was_learned_meanwhile(context: Context) -> None:
    async def main() -> list[Any]:
        everybody_waits = asyncio.Event()

        async def doubtful(_: Request) -> str:
            await everybody_waits.wait()
            return "no"

        poor = ScriptedEngine("diffusion", doubtful, confidence=0.1)
        good = ScriptedEngine("ar", lambda _: "yes")
        router = Router(replace(AUTO, choose="order"))
        gates = {"diffusion": EngineGate(EngineLimits(concurrency=1))}
        contexts = [
            context(poor, good, path=f"flow/step[{n}]", router=router, gates=gates)
            for n in range(20)
        ]
        call = LlmCall((Message("user", "Say it."),), YES)
        async with asyncio.TaskGroup() as group:
            answers = [group.create_task(answer(call, ctx)) for ctx in contexts]
            await asyncio.to_thread(lambda: None)
            everybody_waits.set()
        assert [one.result() for one in answers] == ["yes"] * 20
        assert len(poor.requests) == 4
        return contexts

    contexts = asyncio.run(main())
    assert "rejected 4 of 4" in contexts[-1].told(Escalated)[0].reason
    assert not [e for e in contexts[-1].told(EngineCalled) if e.engine == "diffusion"]


# Four rejections end it; meanwhile one more of the two that may be asked at once can be under way.
@pytest.mark.parametrize(("sureness", "asked"), [(0.1, range(1, 6)), (0.9, range(100, 101))])
def test_a_fan_out_sends_a_few_ahead_and_the_rest_when_the_engine_has_proved_itself(
    context: Context, sureness: float, asked: range
) -> None:
    async def main() -> None:
        async def slowly(_: Request) -> str:
            await asyncio.to_thread(lambda: None)
            return "no"

        unknown = ScriptedEngine("diffusion", slowly, confidence=sureness)
        good = ScriptedEngine("ar", lambda _: "yes")
        router = Router(Policy(rules=AUTO.rules, probe_every=1000))
        contexts = [context(unknown, good, path=f"f/s[{n}]", router=router) for n in range(100)]
        call = LlmCall((Message("user", "Say it."),), YES)
        await asyncio.gather(*(answer(call, ctx) for ctx in contexts))
        assert len(unknown.requests) in asked

    asyncio.run(main())


@pytest.mark.parametrize(("accepted", "asked"), [({}, 1), ({"choice": 0.04}, 0)])
def test_a_step_that_an_engine_has_not_learnt_costs_few_tries(
    context: Context, run_virtual: Any, accepted: dict[str, float], asked: int
) -> None:
    async def takes_a_second(_: Request) -> str:
        await asyncio.sleep(1.0)
        return "yes"

    poor = ScriptedEngine(
        "diffusion", takes_a_second, confidence=0.1, facts=EngineFacts(accepted=accepted)
    )
    good, router = ScriptedEngine("ar", takes_a_second), Router(AUTO)

    async def main() -> list[str]:
        reasons = []
        for n in range(19):  # the next one is a probe
            ctx = context(poor, good, path=f"f/s[{n}]", router=router)
            await answer(LlmCall((Message("user", "Say it."),), YES), ctx)
            reasons.append(ctx.told(Routed)[0].reason)
        return reasons

    reasons = run_virtual(main())
    assert len(poor.requests) == asked
    if accepted:
        assert reasons[0] == (
            "diffusion expects 4% of such answers to be taken, a chance of 4%: ar at once"
        )
    else:
        assert reasons[1] == (
            "0 of 1 answers of diffusion were taken here, a chance of 33% to save 1.00 s of ar "
            "for 1.00 s: ar at once"
        )


@pytest.mark.parametrize(("accepted", "asked"), [({}, 4), ({"nested json": 0.05}, 0)])
def test_a_fan_out_of_hopeless_calls_costs_two_tries_with_their_re_noising(
    context: Context, run_virtual: Any, accepted: dict[str, float], asked: int
) -> None:
    lists = {"type": "object", "properties": {"t": {"type": "array"}, "a": {}, "b": {}}}
    answered = '{"t": [], "a": 1, "b": 2}'

    def one_at_a_time(name: str, seconds: float, sure: float) -> ScriptedEngine:
        place = asyncio.Semaphore(1)

        async def reply(request: Request) -> Completion:
            async with place:
                await asyncio.sleep(seconds)
            fields = {"/t": sure, "/a": 0.9, "/b": 0.9}
            return Completion(answered, confidence=Confidence(sure, fields))

        return ScriptedEngine(name, reply, can=["schema", "drafts"])

    poor, good = one_at_a_time("diffusion", 7.0, 0.2), one_at_a_time("ar", 8.0, 0.9)
    poor.facts = EngineFacts(accepted=accepted)
    call, router = LlmCall((Message("user", "?"),), Json.of(lists)), Router(AUTO)

    async def main() -> None:
        contexts = [context(poor, good, path=f"f/s[{n}]", router=router) for n in range(12)]
        await asyncio.gather(*(answer(call, ctx) for ctx in contexts))

    run_virtual(main())
    assert len(poor.requests) == asked


def test_a_cancelled_scout_lets_the_next_one_go(context: Context) -> None:
    async def main() -> None:
        asked = asyncio.Event()
        may_answer = asyncio.Event()

        async def slowly(_: Request) -> str:
            asked.set()
            await may_answer.wait()
            return "yes"

        engine = ScriptedEngine("diffusion", slowly)
        router = Router(Policy(rules=AUTO.rules, scouts=1))
        call = LlmCall((Message("user", "Say it."),), YES)
        first, second, third = (
            asyncio.create_task(answer(call, context(engine, ar(), router=router)))
            for _ in range(3)
        )
        await asked.wait()
        asked.clear()
        second.cancel()
        first.cancel()
        await asked.wait()
        may_answer.set()
        assert await third == "yes"
        assert len(engine.requests) == 2

    asyncio.run(main())


def test_a_gate_is_held_off_for_everybody_while_an_engine_is_busy(context: Context) -> None:
    async def main() -> None:
        gate = EngineGate(EngineLimits(concurrency=1, tokens_per_min=60_000))
        engine = ar(EngineBusy("full", retry_after_s=0.0), "yes")
        call = LlmCall((Message("user", "Say it."),), YES)
        assert await answer(call, context(engine, gates={"ar": gate})) == "yes"
        assert len(engine.requests) == 2

    asyncio.run(main())


@pytest.mark.parametrize(
    ("error", "phase", "used"),
    [
        (EngineFailed("500"), "wait", False),
        (EngineFailed("gone"), "", False),
        (StreamCut("cut"), "read", True),
        (EngineTimeout("late"), "wait", True),
    ],
)
def test_the_token_limit_counts_no_call_that_failed_before_its_answer(
    run_virtual: Callable[..., Any], error: EngineError, phase: Any, used: bool
) -> None:
    """8 calls of 1,001 tokens at 12,000 a minute take 35 s where all are counted."""
    engine = ScriptedEngine("ar", lambda _: placed(error, "ar", phase))
    request = Request((Message("user", "Say it."),), limits=Limits(1000))

    async def main() -> float:
        started = asyncio.get_running_loop().time()
        gate = EngineGate(EngineLimits(tokens_per_min=12_000))
        for _ in range(8):
            with pytest.raises(type(error)):
                await Asking(engine, request, lambda: None, True, gate).answer()
        return asyncio.get_running_loop().time() - started

    assert (run_virtual(main()) > 30) == used


def test_equal_deterministic_calls_share_one_engine_call(context: Context) -> None:
    engine = ScriptedEngine("ar", lambda _: "yes")
    call = LlmCall((Message("user", "Say it."),), YES)
    warm = LlmCall((Message("user", "Say it."),), YES, sampling=Sampling(0.7))

    async def main() -> list[Any]:
        flight: SingleFlight[Completion] = SingleFlight()
        contexts = [context(engine, single_flight=flight) for _ in range(3)]
        await asyncio.gather(*(answer(call, ctx) for ctx in contexts))
        assert len(engine.requests) == 1
        await asyncio.gather(*(answer(warm, ctx) for ctx in contexts))
        assert len(engine.requests) == 4
        return contexts

    contexts = asyncio.run(main())
    assert contexts[0].told(EngineAnswered)[0].usage.completion_tokens == 1
    assert contexts[1].told(EngineAnswered)[0].usage.completion_tokens == 0
    assert contexts[1].told(EngineCalled)[0].reason.endswith("; joined an equal request under way")


def test_drafts_are_shown_only_where_they_are_wanted(context: Context, ask: Ask) -> None:
    ctx = context(diffusion("yes"))
    ask(ctx, output=YES)
    assert not ctx.told(DraftShown)
    ctx = context(diffusion("yes"), drafts=True)
    ask(ctx, output=YES)
    assert [event.progress.text for event in ctx.told(DraftShown)] == ["yes"]


def test_a_policy_may_be_given_in_place_of_a_router(context: Context, ask: Ask) -> None:
    policy = Policy("swap", (Rule(("ar", "diffusion")),), {"choice": Accept(0.95)})
    ctx = context(diffusion("yes"), ar(sure("no", 0.9)), router=policy)
    assert ask(ctx, output=YES) == "yes"
    assert ctx.told(Routed)[0].reason == "policy 'swap'"


def test_a_step_that_names_its_engine_takes_what_that_engine_says(
    context: Context, ask: Ask
) -> None:
    ctx = context(diffusion(sure("no", 0.01)), ar("yes"))
    assert ask(ctx, output=YES, engine="diffusion") == "no"
    assert ask(context(diffusion(sure("no", 0.01)), ar("yes")), output=YES, engine="auto") == "yes"


def test_cancelling_a_step_cancels_its_engine_call(context: Context) -> None:
    async def main() -> None:
        asked = asyncio.Event()

        async def never(_: Request) -> str:
            asked.set()
            await asyncio.Event().wait()
            return ""

        engine = ScriptedEngine("ar", never)
        call = LlmCall((Message("user", "x"),), YES, limits=Limits(deadline_s=999.0))
        task = asyncio.create_task(answer(call, context(engine)))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.in_flight == 0

    asyncio.run(main())


def test_a_recorded_run_replays_without_engines_even_when_it_learns_in_another_order(
    context: Context, ask: Ask, tmp_path: Path
) -> None:
    path = tmp_path / "run.jsonl"
    texts = [f"Question {n}?" for n in range(8)]

    def run(engines: dict[str, Any], order: list[str]) -> dict[str, Any]:
        router = Router()
        found = {}
        for text in order:
            ctx = context(path="flow/step", router=router)
            ctx.resources["engines"] = engines
            found[text] = ask(ctx, text, output=YES)
        return found

    with Cassette.recording(path) as cassette:
        poor = ScriptedEngine("diffusion", lambda _: "no", confidence=0.1)
        good = ScriptedEngine("ar", lambda r: "yes" if "3" in r.messages[0].content else "no")
        first = run(cassette.record({"diffusion": poor, "ar": good}), texts)
    assert run(Cassette.load(path).replay(), texts[::-1]) == first
    with pytest.raises(CassetteMiss, match=r"\+Question 9\?"):
        run(Cassette.load(path).replay(), ["Question 9?"])


CONTRACTS: list[Contract] = [
    YES,
    PERSON,
    Table((Column("a"), Column("n", "integer"))),
    Outline(),
    Regex(r"\d{4}"),
]
ANSWERS = st.sampled_from(
    [
        "yes",
        "Yes.",
        ANN,
        ANN[:-1],
        ANN[:12],
        "|a|n|\n|-|-|\n|x|1|",
        "|a|n|\n|-|-|\n|x|",
        "- a\n  - b",
        "1. a",
        "2024",
        "`2024`",
        "",
        "[1, 2",
        "{}",
        "word " * 40,
    ]
) | st.text(max_size=30)


@settings(deadline=None)
@given(
    st.sampled_from(CONTRACTS),
    st.lists(st.tuples(ANSWERS, st.floats(0, 1)), min_size=4, max_size=4),
    st.sampled_from(["off", "structural", "infill", "escalate"]),
    st.sampled_from(["end", "length", "steps"]),
)
def test_whatever_engines_say_a_value_holds_to_its_contract_or_the_raw_text_is_kept(
    context: Context, output: Contract, said: list[tuple[str, float]], repair: Any, stop: Any
) -> None:
    replies = [Completion(text, confidence=Confidence(c), stop=stop) for text, c in said]
    ctx = context(diffusion(*replies[:2]), ar(*replies[2:]))
    call = LlmCall((Message("user", "x"),), output, repair=repair)
    try:
        value = asyncio.run(answer(call, ctx))
    except AnswerError as error:
        texts = [attempt.text for attempt in error.attempts]
        raw = error.text
    else:
        assert output.parse(written(output, value)) == value
        return
    assert texts
    assert set(texts) <= {text for text, _ in said}
    assert raw == next((text for text in reversed(texts) if text), "")


def written(output: Contract, value: Any) -> str:
    """The canonical text of a contract's value."""
    match output:
        case Json():
            return json.dumps(value)
        case Table():
            return render_table(value, output)
        case Outline():
            return render_outline(value)
        case _:
            return str(value)
