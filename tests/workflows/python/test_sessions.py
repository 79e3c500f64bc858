"""The front door: runs, sessions, engines opened late, recording, journals, resuming."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

import carrara
from carrara import CarraraError, Policy, StepError, llm, step, workflow
from carrara.engines.engine import Engine
from carrara.engines.errors import EngineRefused, LoadingError
from carrara.engines.facts import EngineFacts
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.errors import JournalError
from carrara.runtime.events import DraftShown, Event, Routed, RunFinished, StepFinished
from carrara.runtime.limits import EngineLimits
from carrara.runtime.routing.accept import Accept, Judge
from carrara.runtime.routing.policy import Hedge, Price, Rule
from carrara.runtime.run import context as run_context
from carrara.workflows.engine_room import EngineRoom, engines_of
from carrara.workflows.errors import DefinitionError
from carrara.workflows.session import opened_journal
from carrara.workflows.yaml.load import loads

Answers = Callable[[dict[str, Any]], dict[str, ScriptedEngine]]


class Watched(ScriptedEngine):
    """Counts how often it is opened and closed."""

    opened = closed = 0

    async def __aenter__(self) -> Self:
        self.opened += 1
        return await super().__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closed += 1
        await super().__aexit__(kind, error, trace)


@llm
def shout(word: str) -> str:
    """Shout {{ word }}"""
    ...


@step
def length(text: str) -> int:
    return len(text)


@workflow
async def measure(word: str) -> int:
    return await length(shout(word))


@workflow
async def plain(word: str) -> int:
    return await length(word)


def test_a_workflow_that_asks_no_model_opens_no_engine() -> None:
    engine = Watched("ar", ["x"])
    assert carrara.run_sync(plain, "abc", engines={"ar": engine}).value == 3
    assert engine.opened == 0


def test_engines_are_opened_once_and_closed_at_the_end() -> None:
    engine = Watched("ar", lambda request: "HEY")

    async def main() -> None:
        async with carrara.session(engines={"ar": engine}) as session:
            assert engine.opened == 0
            results = await asyncio.gather(*(session.run(measure, "hey") for _ in range(5)))
            assert [result.value for result in results] == [3] * 5
            assert (engine.opened, engine.closed) == (1, 0)
            await session.open_engines()
        assert (engine.opened, engine.closed) == (1, 1)

    asyncio.run(main())


def test_engines_are_closed_when_a_run_fails() -> None:
    engine = Watched("ar", [RuntimeError("broken")])
    with pytest.raises(StepError, match="broken"):
        carrara.run_sync(measure, "hey", engines={"ar": engine})
    assert (engine.opened, engine.closed) == (1, 1)


def test_a_cancelled_first_step_leaves_the_opening_to_the_others() -> None:
    gate = asyncio.Event()

    class Slow(Watched):
        async def __aenter__(self) -> Self:
            await gate.wait()
            return await super().__aenter__()

    engine = Slow("ar", lambda request: "x")

    async def main() -> None:
        async with EngineRoom({"ar": engine}) as room:
            first = asyncio.create_task(room.open())
            second = asyncio.create_task(room.open())
            await asyncio.sleep(0)
            first.cancel()
            gate.set()
            await second
            assert first.cancelled()
            assert list(room) == ["ar"]
        assert (engine.opened, engine.closed) == (1, 1)

    asyncio.run(main())


class Broken(ScriptedEngine):
    async def __aenter__(self) -> Self:
        raise LoadingError(f"the weights of {self.name} are gone")


def test_engines_that_cannot_be_opened_fail_every_step_that_asks() -> None:
    engines: Mapping[str, Engine] = {name: Broken(name, ["x"]) for name in ("diffusion", "ar")}

    async def main() -> None:
        async with carrara.session(engines=engines) as session:
            for _ in range(2):
                told = "weights of diffusion are gone.*weights of ar are gone"
                with pytest.raises(StepError, match=told):
                    await session.run(measure, "hey")

    asyncio.run(main())


@pytest.mark.parametrize("policy", [None, Policy("own", (Rule(("ar",)),))])
def test_an_engine_that_cannot_be_opened_leaves_the_call_to_the_others(
    policy: Policy | None,
) -> None:
    fine = Watched("fine", lambda request: "four")
    engines: Mapping[str, Engine] = {"fine": fine, "ar": Broken("ar", ["x"])}
    routed: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Routed):
            routed.append(f"{event.engine}: {event.reason}")

    async def main() -> None:
        async with carrara.session(engines=engines, policy=policy, listeners=[listen]) as session:
            for _ in range(2):
                assert (await session.run(measure, "hey")).value == 4
        assert (fine.opened, fine.closed) == (1, 1)

    asyncio.run(main())
    assert len(routed) == 2
    assert all(
        one.startswith("fine: ") and "ar: not open: the weights of ar are gone" in one
        for one in routed
    )


def test_an_unknown_engine_is_named_with_the_nearest() -> None:
    with pytest.raises(StepError, match=r"unknown engine 'difusion'\. Did you mean 'diffusion'"):
        carrara.run_sync(measure, "hey", engines=["difusion"])


def test_a_text_as_engines_is_the_name_of_one() -> None:
    with pytest.raises(StepError, match=r"unknown engine 'difusion'\. Did you mean 'diffusion'"):
        carrara.run_sync(measure, "hey", engines="difusion")


def test_a_session_answers_llm_steps_called_directly() -> None:
    engine = Watched("ar", lambda request: "HEY")

    async def main() -> str:
        async with carrara.session(engines={"ar": engine}):
            return await shout("hey")

    assert asyncio.run(main()) == "HEY"
    assert (engine.opened, engine.closed) == (1, 1)


def test_a_session_may_be_left_in_another_task_than_it_was_entered_in() -> None:
    async def main() -> None:
        session = carrara.session(engines={"ar": ScriptedEngine("ar", ["x"])})
        await asyncio.create_task(session.__aenter__())
        await session.run(measure, "hey")
        await asyncio.create_task(session.__aexit__(None, None, None))

    asyncio.run(main())


def test_a_session_that_is_not_open_says_so() -> None:
    async def main() -> None:
        await carrara.session().run(plain, "x")

    with pytest.raises(CarraraError, match=r"async with carrara.session\(\)"):
        asyncio.run(main())


def test_run_sync_inside_asyncio_says_what_to_write() -> None:
    async def main() -> None:
        carrara.run_sync(plain, "x")

    with pytest.raises(CarraraError, match=r"await carrara.run\(plain, ...\)"):
        asyncio.run(main())


def test_inputs_that_do_not_fit_are_refused_before_anything_runs() -> None:
    with pytest.raises(TypeError, match=r"plain\(word\): missing a required argument: 'word'"):
        carrara.run_sync(plain)
    with pytest.raises(TypeError, match="Did you mean 'word'"):
        carrara.run_sync(plain, wrod="x")


def test_an_input_called_like_a_setting_is_given_in_inputs() -> None:
    @workflow
    async def odd(policy: str) -> str:
        return policy

    assert carrara.run_sync(odd, inputs={"policy": "mine"}).value == "mine"


def test_listeners_hear_the_run(answers: Answers) -> None:
    heard: list[Event] = []
    carrara.run_sync(measure, "hey", engines=answers({"hey": "HEY"}), listeners=[heard.append])
    assert [type(e) for e in heard].count(StepFinished) == 2
    assert isinstance(heard[-1], RunFinished)
    assert heard[-1].ok


def test_a_policy_and_limits_of_the_session_go_before_those_of_the_workflow(
    answers: Answers,
) -> None:
    async def routed(policy: Policy | None) -> str:
        heard: list[Event] = []
        engines = {**answers({"hey": "HEY"}), "other": ScriptedEngine("other", lambda _: "OTHER")}
        async with carrara.session(engines=engines, policy=policy, listeners=[heard.append]) as s:
            await s.run(own, "hey")
        return next(event.engine for event in heard if isinstance(event, Routed))

    own = workflow(measure.function)
    own.policy = Policy("own", (Rule(("other",)),))
    own.limits = {"other": EngineLimits(concurrency=1)}
    assert asyncio.run(routed(None)) == "other"
    assert asyncio.run(routed(Policy("mine", (Rule(("ar",)),)))) == "ar"


JUDGED = Policy(
    "judged",
    (Rule(("ar", "openai")),),
    {"text": Accept(engines={"ar": Accept(judge=Judge("ollama"))})},
)


def test_a_judge_that_is_not_there_is_told_before_the_run(answers: Answers) -> None:
    heard: list[Event] = []
    engines = answers({"hey": "HEY"})
    with pytest.raises(EngineRefused, match="the judge of policy 'judged': no engine is called"):
        carrara.run_sync(measure, "hey", engines=engines, policy=JUDGED, listeners=[heard.append])
    assert heard == []


def test_an_engine_that_is_asked_alone_needs_no_judge() -> None:
    EngineRoom(("ar",)).check_policy(JUDGED)
    with pytest.raises(EngineRefused, match="no engine is called 'ollama'; there are: ar, openai"):
        EngineRoom(("ar", "openai")).check_policy(JUDGED)
    lost = Policy("p", accept={"text": Accept(judge=Judge("olama"))})
    with pytest.raises(EngineRefused, match="unknown engine 'olama', the judge of policy 'p'"):
        EngineRoom(("ar",)).check_policy(lost)


def test_a_judge_is_opened_with_the_engines_of_the_rules() -> None:
    own = workflow(measure.function)
    own.policy = JUDGED
    assert "ollama" in engines_of(own)[0]
    room = EngineRoom()
    room.want(*engines_of(own))
    assert "ollama" in room.names
    room.check_policy(JUDGED)


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (Policy("p", (Rule(("ar", "opnai")),)), "unknown engine 'opnai' of policy 'p'. Did you"),
        (Policy("p", prices={"mercry": Price(1)}), "Did you mean 'mercury'?"),
        (Policy("p", steps={"x": Accept(engines={"a": Accept()})}), "unknown engine 'a' of"),
        (Policy("p", (Rule(("local",)),), hedge=Hedge()), "has nobody to start: its rules name"),
    ],
)
def test_a_policy_that_cannot_work_is_told_before_the_run(policy: Policy, told: str) -> None:
    heard: list[Event] = []

    local = ScriptedEngine("local", {}, facts=EngineFacts(device="cpu"))
    engines = {"ar": ScriptedEngine("ar", {}), "local": local}
    with pytest.raises(EngineRefused, match=re.escape(told)):
        carrara.run_sync(measure, "hey", engines=engines, policy=policy, listeners=[heard.append])
    assert heard == []


def test_a_policy_may_name_an_engine_of_the_pipeline_that_the_session_does_not_use() -> None:
    pipeline = loads("""
engines: {mine: {preset: openai, model: m}}
policy: {rules: [{engines: [ar, mine]}]}
steps: {mood: {llm: "Which mood?", returns: {one_of: [glad, sad]}}}
""")
    engines = {"ar": ScriptedEngine("ar", lambda request: "glad")}
    result = carrara.run_sync(pipeline.workflow, engines=engines)
    assert result.value == {"mood": "glad"}


def test_a_policy_may_name_engines_that_are_known_and_not_here(answers: Answers) -> None:
    policy = Policy("p", (Rule(("ar", "openai")),), hedge=Hedge(), prices={"mercury": Price(1)})
    assert carrara.run_sync(measure, "hey", engines=answers({"hey": "HEY"}), policy=policy).value


def test_a_limit_holds_over_all_runs_of_a_session() -> None:
    async def reply(request: Any) -> str:
        for _ in range(5):
            await asyncio.sleep(0)
        return request.messages[0].content

    engine = ScriptedEngine("ar", reply)

    async def main() -> None:
        limits = {"ar": EngineLimits(concurrency=2)}
        async with carrara.session(engines={"ar": engine}, limits=limits) as session:
            await asyncio.gather(*(session.run(measure, f"w{n}") for n in range(6)))

    asyncio.run(main())
    assert engine.most_in_flight == 2


class TestRecording:
    def test_a_recorded_run_replays_without_engines(self, tmp_path: Path, answers: Answers) -> None:
        path = tmp_path / "calls.jsonl"
        engines = answers({"hey": "HEY!"})
        first = carrara.run_sync(measure, "hey", engines=engines, record=path)
        again = carrara.run_sync(measure, "hey", engines={}, replay=path)
        assert first.value == again.value == 4
        assert len(engines["ar"].requests) == 1

    def test_a_call_that_was_not_recorded_fails_with_a_diff(
        self, tmp_path: Path, answers: Answers
    ) -> None:
        path = tmp_path / "calls.jsonl"
        carrara.run_sync(measure, "hey", engines=answers({"hey": "HEY!"}), record=path)
        with pytest.raises(StepError, match=r"(?s)Shout hey.*Shout you"):
            carrara.run_sync(measure, "you", replay=path)

    def test_recording_and_replaying_at_once_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CarraraError, match="not both"):
            carrara.run_sync(plain, "x", record=tmp_path / "a", replay=tmp_path / "b")


SCRIPT = """
from carrara import step, workflow
import pathlib

@step
def first(word: str) -> str:
    with open("calls.txt", "a") as file:
        file.write("first\\n")
    return word.upper()

@step
def second(word: str) -> str:
    if pathlib.Path("broken").exists():
        raise RuntimeError("not today")
    return word + "!"

@workflow
async def greet(word: str, times: int = 1) -> str:
    return await second(first(word)) * times
"""


class TestResume:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [*sys.path])
        (tmp_path / "greetings.py").write_text(SCRIPT, encoding="utf-8")
        (tmp_path / "broken").touch()
        monkeypatch.delitem(sys.modules, "greetings", raising=False)
        return tmp_path

    def test_a_failed_run_goes_on_where_it_ended(self, folder: Path) -> None:
        greet = carrara.load_workflow("greetings.py")
        with pytest.raises(StepError, match="not today"):
            carrara.run_sync(greet, "hey", times=2, journal="runs.db")
        (folder / "broken").unlink()
        result = asyncio.run(carrara.resume("last", "runs.db"))
        assert result.value == "HEY!HEY!"
        assert result.reused == 1
        assert (folder / "calls.txt").read_text() == "first\n"

    def test_the_workflow_is_loaded_by_the_reference_in_the_journal(self, folder: Path) -> None:
        greet = carrara.load_workflow("greetings.py:greet")
        with pytest.raises(StepError):
            carrara.run_sync(greet, "hey", journal="runs.db")
        (folder / "broken").unlink()
        del sys.modules["greetings"]
        assert asyncio.run(carrara.resume("last", "runs.db")).value == "HEY!"

    def test_a_workflow_without_a_reference_has_to_be_given(self, tmp_path: Path) -> None:
        fail = True

        @step
        def fragile(word: str) -> str:
            if fail:
                raise RuntimeError("not today")
            return word

        @workflow
        async def local(word: str) -> str:
            return await fragile(word)

        journal = tmp_path / "runs.db"
        with pytest.raises(StepError):
            carrara.run_sync(local, "hey", journal=journal)
        with pytest.raises(JournalError, match=r"call carrara.resume\(..., workflow=...\)"):
            asyncio.run(carrara.resume("last", journal))
        fail = False
        assert asyncio.run(carrara.resume("last", journal, workflow=local)).value == "hey"

    def test_a_workflow_that_is_gone_is_a_definition_error(self, folder: Path) -> None:
        greet = carrara.load_workflow("greetings.py")
        with pytest.raises(StepError):
            carrara.run_sync(greet, "hey", journal="runs.db")
        (folder / "greetings.py").unlink()
        del sys.modules["greetings"]
        with pytest.raises(DefinitionError, match=r"there is no file .*greetings\.py"):
            asyncio.run(carrara.resume("last", "runs.db"))

    def test_an_llm_step_is_not_asked_twice_for_what_it_answered(
        self, tmp_path: Path, answers: Answers
    ) -> None:
        engines = answers({"hey": "HEY"})
        journal = tmp_path / "runs.db"
        first = carrara.run_sync(measure, "hey", engines=engines, journal=journal)
        again = carrara.run_sync(
            measure, "hey", engines=engines, journal=journal, run_id=first.run_id
        )
        anew = carrara.run_sync(measure, "hey", engines=engines, journal=journal, reuse="any")
        assert (again.reused, anew.reused) == (2, 2)
        assert len(engines["ar"].requests) == 1


def test_drafts_are_events_for_listeners_and_never_written_down(tmp_path: Path) -> None:
    engine = ScriptedEngine("ar", lambda request: "hello", can=("stream",))
    seen: list[Event] = []

    async def main(drafts: bool) -> list[Event]:
        path = tmp_path / f"{drafts}.db"
        async with carrara.session(
            engines={"ar": engine}, journal=path, listeners=(seen.append,), drafts=drafts
        ) as session:
            result = await session.run(shout, "hey")
        with opened_journal(path) as journal:
            return list(journal.timeline(result.run_id))

    kept = asyncio.run(main(True))
    assert [e.progress.text for e in seen if isinstance(e, DraftShown)] == ["hello"]
    assert kept
    assert not any(isinstance(event, DraftShown) for event in kept)
    seen.clear()
    asyncio.run(main(False))
    assert not any(isinstance(event, DraftShown) for event in seen)


def test_somebody_waits_for_a_single_run_and_nobody_for_what_is_executed_like_a_job() -> None:
    async def waited_for() -> bool:
        return bool(run_context().resources["hurried"])

    asked = step(waited_for)

    @workflow
    async def alone() -> bool:
        return await asked()

    async def work() -> tuple[bool, bool]:
        async with carrara.session() as session:
            single = await session.run(alone)
            batch = await session.execute(alone.spec.body, name="batch", settings_of=alone)
            return single.value, batch.value

    assert asyncio.run(work()) == (True, False)
