"""A cassette gives back what was recorded, and what was not is refused with a diff that a person can read."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.contract import Choice, Json
from carrara.engines.engine import Engine
from carrara.engines.errors import EngineBusy, EngineFailed, EngineRefused
from carrara.engines.facts import EngineFacts, Price
from carrara.engines.request import (
    Completion,
    Confidence,
    Draft,
    Limits,
    Message,
    Progress,
    Request,
    Sampling,
    Timings,
    Usage,
)
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.cassette import Cassette, CassetteError, CassetteMiss, asking_step
from carrara.runtime.cassette_format import (
    completion_data,
    completion_from,
    request_data,
    request_key,
)


def ask(text: str, **more: Any) -> Request:
    return Request((Message("system", "Be brief."), Message("user", text)), **more)


def recorded(path: Path, engine: Engine, *requests: Request) -> list[Completion]:
    async def main() -> list[Completion]:
        with Cassette.recording(path) as cassette:
            heard = cassette.record({engine.name: engine})[engine.name]
            async with heard:
                return [await heard.complete(request) for request in requests]

    return asyncio.run(main())


def replayed(path: Path, engine: str, *requests: Request) -> list[Completion]:
    async def main() -> list[Completion]:
        async with Cassette.load(path).replay()[engine] as found:
            return [await found.complete(request) for request in requests]

    return asyncio.run(main())


def test_a_replay_gives_the_recorded_completions(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    whole = Completion(
        '{"a": 1}',
        {"a": 1},
        Confidence(0.5, {"/a": 0.25}, (0.5, 0.75)),
        Usage(9, 4, 3, 2),
        Timings(0.1, 0.2, 0.3),
        "length",
        "ar",
        "small",
    )
    requests = [ask("x", output=Json.of({"type": "object"})), ask("y")]
    first = recorded(path, ScriptedEngine("ar", [whole, "plain"]), *requests)
    assert first[0] == whole
    assert replayed(path, "ar", *requests) == first


def test_a_replayed_engine_says_of_itself_what_the_recorded_one_said(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    engine = ScriptedEngine(
        "d",
        ["a"],
        can=["choice", "drafts"],
        refuses=["json"],
        context_tokens=77,
        fingerprint="f1",
        facts=EngineFacts("cuda", Price(1.0, None, 2.0), {"choice": 0.75}),
    )
    with Cassette.recording(path) as cassette:
        heard = cassette.record({"d": engine})["d"]
        assert heard.refusal(Json.of({})) == heard.refusal(Json.of({}))
        assert heard.refusal(Choice(("a",))) is None
        assert heard.facts == engine.facts
        assert "recorded to" in heard.health().line
    found = Cassette.load(path).replay()["d"]
    assert isinstance(found, Engine)
    assert (found.can, found.context_tokens, found.fingerprint) == (engine.can, 77, "f1")
    assert found.facts == engine.facts
    assert found.refusal(Json.of({})) == engine.refusal(Json.of({}))
    assert found.refusal(Json.of({"type": "null"})) is None
    assert found.health().line.startswith("d: replayed from ")


def test_equal_requests_get_their_answers_in_turn_and_then_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    recorded(path, ScriptedEngine("ar", ["one", "two"]), ask("x"), ask("x"))
    answers = replayed(path, "ar", *[ask("x")] * 4)
    assert [answer.text for answer in answers] == ["one", "two", "two", "two"]


def test_what_the_answer_cannot_depend_on_is_not_part_of_the_key() -> None:
    calm = ask("x", priority=1.0, limits=Limits(deadline_s=3.0))
    assert request_key(request_data(calm)) == request_key(request_data(ask("x")))
    others = [
        ask("y"),
        ask("x", limits=Limits(max_tokens=1)),
        ask("x", sampling=Sampling(0.5)),
        ask("x", output=Choice(("a",))),
        ask("x", stop=("\n",)),
        ask("x", draft=Draft("d")),
        ask("x", adapter="b"),
    ]
    keys = {request_key(request_data(request)) for request in [calm, *others]}
    assert len(keys) == 8


def test_the_order_of_schema_properties_is_part_of_the_key() -> None:
    one = Json.of({"properties": {"a": {}, "b": {}}})
    two = Json.of({"properties": {"b": {}, "a": {}}})
    keys = {request_key(request_data(ask("x", output=output))) for output in (one, two)}
    assert len(keys) == 2


def test_a_miss_shows_the_difference_to_the_nearest_request_of_the_same_step(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run.jsonl"

    async def record() -> None:
        with Cassette.recording(path) as cassette:
            engine = cassette.record({"ar": ScriptedEngine("ar", lambda _: "ok")})["ar"]
            asking_step.set("book/title")
            await engine.complete(ask("Give a title.\nText: an old oak"))
            asking_step.set("book/summary")
            await engine.complete(ask("Give a title.\nText: a new oak"))

    async def replay() -> None:
        asking_step.set("book/title")
        await Cassette.load(path).replay()["ar"].complete(ask("Give a title.\nText: a new oak!"))

    asyncio.run(record())
    with pytest.raises(CassetteMiss) as caught:
        asyncio.run(replay())
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{path}: step 'book/title' asks engine 'ar' what was not recorded.")
    assert "-Text: an old oak" in lines
    assert "+Text: a new oak!" in lines
    assert any(line.startswith(f"--- {path}:3 (recorded, step 'book/title'") for line in lines)


def test_a_miss_in_an_empty_cassette_says_so(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    recorded(path, ScriptedEngine("ar"))
    with pytest.raises(CassetteMiss, match="The cassette holds no calls"):
        replayed(path, "ar", ask("x"))


def test_what_another_engine_was_asked_is_refused_so_that_the_router_goes_on(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run.jsonl"

    async def record() -> None:
        with Cassette.recording(path) as cassette:
            found = cassette.record({n: ScriptedEngine(n, lambda _: "ok") for n in ("d", "ar")})
            async with found["d"], found["ar"]:
                await found["ar"].complete(ask("x"))

    asyncio.run(record())
    with pytest.raises(EngineRefused, match="not 'd' but 'ar' was asked this"):
        replayed(path, "d", ask("x"))


def test_recorded_errors_are_raised_again_but_a_busy_engine_is_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    errors = [EngineBusy("full"), EngineRefused("too long"), EngineFailed("broke")]
    engine = ScriptedEngine("ar", errors)

    async def record() -> None:
        with Cassette.recording(path) as cassette:
            heard = cassette.record({"ar": engine})["ar"]
            for kind, text in ((EngineBusy, "x"), (EngineRefused, "x"), (EngineFailed, "y")):
                with pytest.raises(kind):
                    await heard.complete(ask(text))

    asyncio.run(record())
    with pytest.raises(EngineRefused, match="too long"):
        replayed(path, "ar", ask("x"))
    with pytest.raises(EngineFailed, match="broke"):
        replayed(path, "ar", ask("y"))


def test_the_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    good = '{"cassette": "carrara", "version": 1}\n'
    path.write_text(good)
    with pytest.raises(RuntimeError), Cassette.recording(path):
        raise RuntimeError("the run broke")
    assert path.read_text() == good
    assert (tmp_path / "run.jsonl.partial").exists()
    recorded(path, ScriptedEngine("ar", ["a"]), ask("x"))
    assert not (tmp_path / "run.jsonl.partial").exists()
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("line", "text", "where"),
    [
        (1, "{}", ":1: not a line of a cassette"),
        (3, '{"engine": "ar", "step"', ":3: not a line of a cassette"),
        (3, '{"engine": "ar", "step": "s", "key": "k"}', ":3: not a line of a cassette"),
        (2, "[1]", ":2: not a line of a cassette"),
        (2, '{"engine": "x", "refuses": "k", "reason": "r"}', ":2: not a line"),
    ],
)
def test_a_corrupt_line_is_named_with_its_file(
    tmp_path: Path, line: int, text: str, where: str
) -> None:
    path = tmp_path / "run.jsonl"
    recorded(path, ScriptedEngine("ar", ["a"]), ask("x"))
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines))
    with pytest.raises(CassetteError) as caught:
        Cassette.load(path)
    assert f"{path}{where}" in str(caught.value)


def test_an_incomplete_answer_is_named_when_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    recorded(path, ScriptedEngine("ar", ["a"]), ask("x"))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    del rows[2]["reply"]["usage"]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(CassetteError, match=r"run\.jsonl:3: the recorded answer lacks 'usage'"):
        replayed(path, "ar", ask("x"))


def test_missing_empty_and_unwritable_files_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CassetteError, match="cannot be read: No such file"):
        Cassette.load(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(CassetteError, match="the cassette is empty"):
        Cassette.load(tmp_path / "empty.jsonl")
    with pytest.raises(CassetteError, match="cannot be written"):
        Cassette.recording(tmp_path / "no folder" / "run.jsonl")


def test_the_watcher_of_a_replay_sees_the_answer(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    recorded(path, ScriptedEngine("ar", ["a"]), ask("x"))
    seen: list[Progress] = []
    asyncio.run(Cassette.load(path).replay()["ar"].complete(ask("x"), seen.append))
    assert seen == [Progress("a")]


PROBABILITY = st.floats(0, 1)


@given(
    st.text(),
    st.none() | PROBABILITY,
    st.dictionaries(st.text(), PROBABILITY, max_size=3),
    st.lists(PROBABILITY, max_size=4),
    st.integers(0, 10**9),
)
def test_a_completion_comes_back_from_its_data(
    text: str, overall: float | None, fields: dict[str, float], tokens: list[float], count: int
) -> None:
    completion = Completion(
        text,
        text.strip(),
        Confidence(overall, fields, tuple(tokens)),
        Usage(count, 0, 1, 2),
        engine="e",
        model="m",
    )
    data = json.loads(json.dumps(completion_data(completion)))
    assert completion_from(data, "e", ask("x").output) == completion


@pytest.mark.parametrize(
    "content",
    ["steps:\n  a: {do: b.py:c}\n", '{"name": "Ada"}\n', "[1, 2]\n", b"\xff\xfe\x00", "\n\n"],
)
def test_a_file_that_is_no_cassette_is_never_replaced_by_one(
    tmp_path: Path, content: str | bytes
) -> None:
    data = content.encode() if isinstance(content, str) else content
    for name, taken in (("own.yaml", "own.yaml"), ("calls", "calls.partial")):
        (tmp_path / taken).write_bytes(data)
        with pytest.raises(CassetteError, match=f"{taken} is there and is not .*another file"):
            Cassette.recording(tmp_path / name)
        assert (tmp_path / taken).read_bytes() == data
    assert {path.name for path in tmp_path.iterdir()} == {"own.yaml", "calls.partial"}


def test_a_folder_is_no_place_for_a_recording(tmp_path: Path) -> None:
    with pytest.raises(CassetteError, match="is not a file"):
        Cassette.recording(tmp_path)


def test_a_cassette_a_broken_one_and_an_empty_file_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.touch()
    path.with_name("run.jsonl.partial").write_text('{"cassette": "carrara", "version": 1}\n{"eng')
    for text in ("one", "two"):
        recorded(path, ScriptedEngine("ar", lambda request: "yes"), ask(text))
    assert [call.request["messages"][1]["content"] for call in Cassette.load(path).calls] == ["two"]
