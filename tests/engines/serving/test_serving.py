"""`carrara serve`: the OpenAI wire format over real engines' protocol, asked by our own remote engine over loopback."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import uvicorn

from carrara.engines.closed import ClosedEngine
from carrara.engines.contract import Choice, Json, Regex, Text
from carrara.engines.errors import (
    AccessDenied,
    ContentFiltered,
    ContextOverflow,
    EngineBusy,
    EngineError,
    EngineFailed,
    EngineRefused,
    LoadingError,
    QuotaExhausted,
    Unreachable,
)
from carrara.engines.remote.engine import RemoteEngine
from carrara.engines.remote.faults import placed
from carrara.engines.remote.keys import Key
from carrara.engines.remote.preset import presets
from carrara.engines.remote.reply import Tool
from carrara.engines.request import (
    Completion,
    Confidence,
    Message,
    Progress,
    Request,
    Sampling,
    Usage,
    Watch,
)
from carrara.engines.scripted import ScriptedEngine
from carrara.engines.serving.app import app_of
from carrara.runtime.routing.outage_memory import OutageMemory
from carrara.runtime.routing.policy import Policy

PERSON = Json.of(
    {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
)


class Slow(ScriptedEngine):
    """Shows its text word by word, as a streaming engine does, or a canvas that still changes."""

    canvas = False

    async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
        found = await super().complete(request)
        for end in range(1, len(found.text) + 1) if watch is not None else ():
            assert watch is not None
            watch(Progress(found.text[:end], 0.5 if self.canvas else 1.0))
            await asyncio.sleep(0)
        return found


@asynccontextmanager
async def serving(app: Any, port: int = 0) -> AsyncIterator[str]:
    """The application at a port of this machine, its URL given."""
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = True
        await task


def served(
    engine: Any,
    work: Callable[[str], Coroutine[Any, Any, Any]],
    token: str = "",
    before: dict[str, Any] | None = None,
    **more: Any,
) -> Any:
    """`work(url)` while the engine is served, behind those `before` it."""

    async def main() -> Any:
        app = app_of({**(before or {}), engine.name: engine}, token, **more)
        async with engine, serving(app) as url:
            return await work(url)

    return asyncio.run(main())


def completed(
    engine: Any, request: Request, watch: Watch | None = None, token: str = "", key: str = ""
) -> Any:
    async def work(url: str) -> Completion:
        preset = presets()["carrara-server"].but({"base_url": url}, "t")
        async with RemoteEngine("far", preset, key=Key(key)) as remote:
            return await remote.complete(request, watch)

    return served(engine, work, token)


def asking(output: Any = None, **more: Any) -> Request:
    return Request(
        (Message("system", "Be short."), Message("user", "Go.")), output or Text(), **more
    )


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize(
    ("output", "reply"),
    [
        (Text(), "Grüß Gott 👋"),
        (PERSON, '{"age": 3}'),
        (Choice(("a", "b")), "b"),
        (Regex("x+"), "xx"),
    ],
    ids=["text", "json", "choice", "regex"],
)
def test_a_request_arrives_and_its_answer_comes_back_as_it_is(
    output: Any, reply: str, streams: bool
) -> None:
    sure = Confidence(0.75, {"/age": 0.5})
    engine = Slow("inner", [reply], confidence=sure)
    seen: list[str] = []
    watch = (lambda progress: seen.append(progress.text)) if streams else None
    found = completed(engine, asking(output, sampling=Sampling(0.3, 0.8, 5)), watch)
    assert (found.text, found.value, found.stop) == (reply, output.parse(reply), "end")
    assert (found.confidence.overall, dict(found.confidence.fields)) == (0.75, {"/age": 0.5})
    assert found.usage.prompt_tokens > 0
    asked = engine.requests[0]
    assert (asked.output.kind, asked.sampling) == (output.kind, Sampling(0.3, 0.8, 5))
    assert asked.messages[0] == Message("system", "Be short.")
    if streams:
        assert seen[-1] == reply


def test_a_canvas_that_changes_is_not_streamed() -> None:
    engine = Slow("inner", ["whole"])
    engine.canvas = True
    seen: list[str] = []
    completed(engine, asking(), lambda progress: seen.append(progress.text))
    assert seen == ["whole"]


def asks_for(error: EngineError, wait_s: float) -> EngineError:
    error.retry_after_s = wait_s
    return error


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (EngineBusy("full", retry_after_s=3), EngineBusy),
        (EngineBusy("full", retry_after_s=0.25), EngineBusy),
        (ContextOverflow("its context holds 512"), ContextOverflow),
        (QuotaExhausted("no more of it"), QuotaExhausted),
        (ContentFiltered("not this"), ContentFiltered),
        (AccessDenied("the key is wrong"), AccessDenied),
        (EngineRefused("never"), EngineRefused),
        (EngineFailed("broke"), EngineFailed),
        (asks_for(EngineFailed("broke"), 2.5), EngineFailed),
    ],
)
def test_errors_come_back_as_what_they_were(
    error: Exception, kind: type[Exception], streams: bool
) -> None:
    watch = (lambda progress: None) if streams else None
    with pytest.raises(kind) as caught:
        completed(Slow("inner", [error]), asking(), watch)
    assert type(caught.value) is kind
    assert isinstance(error, EngineError)
    assert isinstance(caught.value, EngineError)
    assert caught.value.retry_after_s == error.retry_after_s


@pytest.mark.parametrize(("wait_s", "told"), [(0.25, "1"), (3, "3"), (34_560_000.0, "34560000")])
@pytest.mark.parametrize("streams", [True, False])
def test_a_wait_is_told_in_whole_seconds(wait_s: float, told: str, streams: bool) -> None:
    async def work(url: str) -> Any:
        async with httpx2.AsyncClient() as client:
            return await answer_of(client, url, stream=streams)

    found = served(Slow("inner", [EngineBusy("full", retry_after_s=wait_s)]), work)
    assert (found.status_code, found.headers["Retry-After"]) == (429, told)


@pytest.mark.parametrize("shown", ["", "half of"])
@pytest.mark.parametrize("streams", [True, False])
def test_an_unforeseen_error_is_told_as_json(streams: bool, shown: str) -> None:
    class Broken(ScriptedEngine):
        async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
            if shown and watch is not None:
                watch(Progress(shown))
                await asyncio.sleep(0)
            raise TypeError("no such thing")

    async def work(url: str) -> Any:
        async with httpx2.AsyncClient() as client:
            body = {"messages": [{"role": "user", "content": "x"}], "stream": streams}
            return await client.post(f"{url}/chat/completions", json=body)

    found = served(Broken("inner"), work)
    if streams and shown:
        told = json.loads(found.text.strip().splitlines()[-1].removeprefix("data: "))
        assert told["error"]["code"] == 500
    else:
        assert found.status_code == 500
        told = found.json()
    assert told["error"]["message"] == "unexpected TypeError: no such thing"


@pytest.mark.parametrize("streams", [True, False])
def test_half_a_character_spoils_no_answer(streams: bool) -> None:
    async def work(url: str) -> Any:
        async with httpx2.AsyncClient() as client:
            body = {"messages": [{"role": "user", "content": "x"}], "stream": streams}
            return await client.post(f"{url}/chat/completions", json=body)

    found = served(Slow("inner", ["a \ud83d\ude00 b \ud83d c"]), work)
    if streams:
        events = [json.loads(line[6:]) for line in found.text.split("\n\n") if "{" in line]
        text = "".join(one["choices"][0]["delta"].get("content", "") for one in events)
        assert events[-1]["choices"][0]["finish_reason"] == "stop"
    else:
        text = found.json()["choices"][0]["message"]["content"]
    assert text == "a 😀 b \ufffd c"


def test_a_token_is_needed_where_one_is_set() -> None:
    assert (
        completed(Slow("inner", ["x"]), asking(), token="t0k3n-t0k3n", key="t0k3n-t0k3n").text
        == "x"
    )
    for key in ("", "other"):
        with pytest.raises(AccessDenied):
            completed(Slow("inner", ["x"]), asking(), token="t0k3n-t0k3n", key=key)


def test_a_client_that_leaves_cancels_its_request() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def forever(_: Request) -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return ""

    told: list[logging.LogRecord] = []
    noting = logging.Handler()
    noting.emit = told.append  # type: ignore[method-assign]
    log = logging.getLogger("uvicorn.error")

    async def work(url: str) -> None:
        log.addHandler(noting)
        preset = presets()["carrara-server"].but({"base_url": url}, "t")
        async with RemoteEngine("far", preset, key=Key("")) as remote:
            for watch in (None, lambda progress: None):
                begun.clear()
                ended.clear()
                task = asyncio.create_task(remote.complete(asking(), watch))
                await begun.wait()
                task.cancel()
                await asyncio.wait_for(ended.wait(), 10)

    try:
        served(ScriptedEngine("inner", forever), work)
    finally:
        log.removeHandler(noting)
    assert [record.getMessage() for record in told] == []


def test_models_and_health_are_told() -> None:
    async def work(url: str) -> None:
        async with httpx2.AsyncClient() as client:
            models = (await client.get(f"{url}/models")).json()
            assert [model["id"] for model in models["data"]] == ["inner"]
            health = await client.get(url.removesuffix("/v1") + "/health")
            assert (health.status_code, health.json()["ready"]) == (200, True)

    served(ScriptedEngine("inner", ["x"]), work)


def _with(**parts: Any) -> str:
    return json.dumps({"messages": [{"role": "user", "content": "x"}], **parts})


def _schema(schema: Any) -> str:
    held = {"type": "json_schema", "json_schema": {"name": "it", "schema": "…"}}
    text = schema if isinstance(schema, str) else json.dumps(schema)
    return _with(response_format=held).replace('"\\u2026"', text)


def _nested(depth: int) -> str:
    return '{"type": "array", "items": ' * depth + "{}" + "}" * depth


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("{", 400, "no JSON"),
        ("[]", 400, "the body"),
        ('{"messages": []}', 400, "messages"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', 400, "messages.0.role"),
        (
            '{"messages": [{"role": "user", "content": "x"}], "model": "gone"}',
            404,
            "there are: auto, inner",
        ),
        ('{"messages": [{"role": "user", "content": "x"}], "temperature": -1}', 400, "temperature"),
        ('{"messages": [{"role": "user", "content": "x"}], "n": 2}', 400, "n:"),
        (
            '{"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_schema"}}',
            400,
            "needs",
        ),
        (
            '{"messages": [{"role": "user", "content": "x"}], "structured_outputs": {"regex": "("}}',
            400,
            "regular",
        ),
        (_with(structured_outputs={}), 400, "exactly one of json, choice and regex"),
        (_with(structured_outputs={"choice": ["a"], "regex": "a"}), 400, "exactly one of"),
        (_with(messages=[{"role": "user", "content": None}]), 400, "user needs content"),
        (
            _with(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
            400,
            "messages.0.content.0: Value error, only parts of the type 'text' are taken, this is 'image_url'",
        ),
        (
            _with(messages=[{"role": "user", "content": 5}]),
            400,
            "messages.0.content: Value error, takes text, or a list of parts",
        ),
        (_schema({"type": 5}), 400, "bad JSON Schema: /type"),
        (_schema({"type": "string", "minLength": "x"}), 400, "bad JSON Schema: /minLength"),
        (_schema({"required": "a"}), 400, "bad JSON Schema: /required"),
        (_schema({"items": [{}]}), 400, "bad JSON Schema: /items"),
        (_schema({"$defs": 5}), 400, "bad JSON Schema: /$defs"),
        (
            _schema({"properties": {"a": {"$ref": "#/nope"}}}),
            400,
            "bad JSON Schema: /properties/a/$ref: '#/nope' leads to no schema",
        ),
        (
            _schema({"$ref": "http://127.0.0.1/schema"}),
            400,
            "bad JSON Schema: /$ref: 'http://127.0.0.1/schema' leads to no schema",
        ),
        (_schema(_nested(150)), 400, "nested too deep"),
        (_schema(_nested(3000)), 400, ""),
        (_with(structured_outputs={"json": {"type": 5}}), 400, "bad JSON Schema: /type"),
    ],
)
def test_a_wrong_body_is_told_with_its_part(body: str, status: int, words: str) -> None:
    async def work(url: str) -> None:
        async with httpx2.AsyncClient() as client:
            found = await client.post(f"{url}/chat/completions", content=body)
            assert found.status_code == status
            assert words in found.json()["error"]["message"]

    served(ScriptedEngine("inner", ["x"]), work)


def test_an_engine_that_is_not_open_is_not_listed_and_tried_again_by_each_call() -> None:
    away = ClosedEngine("away", LoadingError("its weights are gone"))
    tried: list[Sequence[str]] = []

    async def opened(names: Sequence[str]) -> None:
        tried.append(tuple(names))
        if list(names) == ["away"]:
            raise away.error

    async def work(url: str) -> None:
        async with httpx2.AsyncClient() as client:
            listed = (await client.get(f"{url}/models")).json()["data"]
            assert [one["id"] for one in listed] == ["inner"]
            body = {"messages": [{"role": "user", "content": "x"}]}
            found = await client.post(f"{url}/chat/completions", json={**body, "model": "away"})
            assert found.status_code == 503
            assert "its weights are gone" in found.json()["error"]["message"]
            found = await client.post(f"{url}/chat/completions", json={**body, "model": "auto"})
            assert found.json()["choices"][0]["message"]["content"] == "hello"

    served(ScriptedEngine("inner", ["hello"]), work, before={"away": away}, opened=opened)
    assert tried == [("away",), ("away", "inner")]


@pytest.mark.parametrize("streams", [False, True])
def test_auto_goes_past_an_engine_whose_server_cannot_be_reached(streams: bool) -> None:
    gone = ScriptedEngine("gone", lambda _: Unreachable("nothing listens", engine="gone"))

    async def work(url: str) -> None:
        async with gone, httpx2.AsyncClient() as client:
            body = {"messages": [{"role": "user", "content": "x"}]}
            asked = {**body, "model": "auto", "stream": streams}
            found = await client.post(f"{url}/chat/completions", json=asked)
            assert found.status_code == 200
            assert '"content":"Q"' in found.text.replace(" ", "")
            found = await client.post(f"{url}/chat/completions", json={**body, "model": "gone"})
            assert found.status_code == 503
            assert "nothing listens" in found.json()["error"]["message"]

    served(Slow("inner", ["Q"]), work, before={"gone": gone})


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def answer_of(client: httpx2.AsyncClient, url: str, **more: Any) -> Any:
    body = {"messages": [{"role": "user", "content": "x"}], "model": "auto", **more}
    found = await client.post(f"{url}/chat/completions", json=body)
    return found.json()["choices"][0]["message"]["content"] if found.is_success else found


def test_auto_leaves_a_dead_engine_alone_until_a_call_that_tries_it_finds_it_back() -> None:
    now, port = [0.0], free_port()
    preset = presets()["carrara-server"].but({"base_url": f"http://127.0.0.1:{port}/v1"}, "t")
    away = RemoteEngine("away", preset, key=Key(""))
    back = ScriptedEngine("auto", lambda _: "from the first")
    memory = OutageMemory(Policy(break_s=30.0), clock=lambda: now[0])

    async def work(url: str) -> None:
        async with away, back, httpx2.AsyncClient() as client:
            assert await answer_of(client, url) == "from the second"
            async with serving(app_of({"auto": back}), port):
                now[0] = 29.0
                assert await answer_of(client, url) == "from the second"
                assert back.requests == []  # a call that had tried it would have been answered
                now[0] = 30.0
                for _ in range(2):
                    assert await answer_of(client, url) == "from the first"

    inner = ScriptedEngine("inner", lambda _: "from the second")
    served(inner, work, before={"away": away}, outages=memory)


def test_one_call_alone_tries_a_dead_engine_while_the_others_go_past_it() -> None:
    now, held = [0.0], asyncio.Event()

    async def gone(request: Request) -> Any:
        if now[0]:
            await held.wait()
        return Unreachable("nothing listens", engine="gone")

    first = ScriptedEngine("gone", gone)
    memory = OutageMemory(Policy(break_s=30.0), clock=lambda: now[0])

    async def work(url: str) -> None:
        async with first, httpx2.AsyncClient() as client:
            assert [await answer_of(client, url) for _ in range(3)] == ["Q"] * 3
            assert len(first.requests) == 1
            now[0] = 31.0
            trying = asyncio.create_task(answer_of(client, url))
            while len(first.requests) < 2:  # noqa: ASYNC110 - until it has been asked
                await asyncio.sleep(0.005)
            assert await answer_of(client, url) == "Q"
            held.set()
            assert await trying == "Q"
            assert await answer_of(client, url) == "Q"
            assert len(first.requests) == 2

    served(ScriptedEngine("inner", lambda _: "Q"), work, before={"gone": first}, outages=memory)


def test_auto_goes_past_a_server_that_fails_and_after_some_failures_leaves_it_alone() -> None:
    broken = ScriptedEngine(
        "broken", lambda _: placed(EngineFailed("500: internal"), "broken", "wait", 500)
    )
    memory = OutageMemory(Policy(break_after=2), clock=lambda: 0.0)

    async def work(url: str) -> None:
        async with broken, httpx2.AsyncClient() as client:
            assert [await answer_of(client, url) for _ in range(4)] == ["Q"] * 4
            assert len(broken.requests) == 2
            told = await answer_of(client, url, model="broken")  # who names it gets what it says
            assert (told.status_code, "500: internal" in told.text) == (500, True)

    served(ScriptedEngine("inner", lambda _: "Q"), work, before={"broken": broken}, outages=memory)


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("status", [429, 502, 503, 504, None])
def test_auto_goes_past_an_engine_without_room(status: int | None, streams: bool) -> None:
    def busy(_: Request) -> Any:
        return placed(EngineBusy(f"{status}: later", engine="full"), "full", "wait", status)

    full = ScriptedEngine("full", busy)
    memory = OutageMemory(Policy(break_after=2), clock=lambda: 0.0)

    async def work(url: str) -> None:
        async with full, httpx2.AsyncClient() as client:
            body = {"messages": [{"role": "user", "content": "x"}], "stream": streams}
            for _ in range(4):
                asked = {**body, "model": "auto"}
                found = await client.post(f"{url}/chat/completions", json=asked)
                assert (found.status_code, "Q" in found.text) == (200, True)

    served(ScriptedEngine("inner", lambda _: "Q"), work, before={"full": full}, outages=memory)
    # A gateway that finds no server counts as a failure, a full server does not.
    assert len(full.requests) == (2 if status in (502, 503, 504) else 4)


@pytest.mark.parametrize(
    ("status", "told", "kind"),
    [
        (429, 429, "rate_limit_error"),
        (None, 429, "rate_limit_error"),
        (502, 503, "server_error"),
        (503, 503, "server_error"),
        (504, 503, "server_error"),
        (529, 503, "server_error"),
    ],
)
def test_where_no_engine_has_room_auto_says_what_the_last_one_said(
    status: int | None, told: int, kind: str
) -> None:
    away = ScriptedEngine("away", lambda _: Unreachable("nothing listens", engine="away"))

    def busy(_: Request) -> Any:
        later = EngineBusy("come back", engine="inner", retry_after_s=1.5)
        return placed(later, "inner", "wait", status)

    async def work(url: str) -> None:
        async with away, httpx2.AsyncClient() as client:
            found = await answer_of(client, url)
            assert (found.status_code, found.json()["error"]["type"]) == (told, kind)
            assert "come back" in found.text
            assert (found.headers["Retry-After"], found.headers["retry-after-ms"]) == ("2", "1500")

    served(ScriptedEngine("inner", busy), work, before={"away": away})


def test_where_all_engines_are_dead_each_is_tried() -> None:
    gone: list[Any] = [Unreachable("nothing listens")]
    first = ScriptedEngine("first", lambda _: gone[-1])
    last = ScriptedEngine("last", lambda _: Unreachable("nothing listens"))
    memory = OutageMemory(clock=lambda: 0.0)

    async def work(url: str) -> None:
        async with first, httpx2.AsyncClient() as client:
            assert (await answer_of(client, url)).status_code == 503
            gone.append("back")
            assert await answer_of(client, url) == "back"

    served(last, work, before={"first": first}, outages=memory)


def test_what_a_client_has_seen_is_not_said_again_by_another_engine() -> None:
    class Breaking(ScriptedEngine):
        async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
            assert watch is not None
            watch(Progress("half of", 1.0))
            raise placed(EngineFailed("500: internal"), "breaking", "read", 500)

    breaking, inner = Breaking("breaking", {}), ScriptedEngine("inner", lambda _: "Q")

    async def work(url: str) -> str:
        async with breaking, httpx2.AsyncClient() as client:
            body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
            found = await client.post(f"{url}/chat/completions", json={**body, "model": "auto"})
            return found.text

    told = served(inner, work, before={"breaking": breaking})
    assert "500: internal" in told
    assert inner.requests == []


def test_health_says_that_a_server_could_not_be_reached() -> None:
    preset = presets()["vllm-server"].but({"base_url": "http://127.0.0.1:9/v1"}, "t")
    remote = RemoteEngine("far", preset, key=Key(""))

    async def work(url: str) -> None:
        async with remote, httpx2.AsyncClient() as client:
            health = await client.get(url.removesuffix("/v1") + "/health")
            assert "could not be reached" in health.json()["engines"]["far"]

    served(ScriptedEngine("inner", ["x"]), work, before={"far": remote})


def test_messages_may_come_in_parts_and_usage_is_told() -> None:
    async def work(url: str) -> Any:
        parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
        body = {
            "model": "inner",
            "messages": [{"role": "developer", "content": "d"}, {"role": "user", "content": parts}],
            "max_completion_tokens": 7,
            "stop": "zz",
            "response_format": {"type": "json_object"},
        }
        async with httpx2.AsyncClient() as client:
            return json.loads((await client.post(f"{url}/chat/completions", json=body)).text)

    engine = ScriptedEngine("inner", [Completion("{}", usage=Usage(5, 2, 3, 3), stop="length")])
    found = served(engine, work)
    assert found["choices"][0]["finish_reason"] == "length"
    assert found["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    asked = engine.requests[0]
    assert [m.content for m in asked.messages] == ["d", "ab"]
    assert (asked.limits.max_tokens, asked.stop, asked.output.kind) == (7, ("zz",), "json")


def test_null_stands_for_the_default() -> None:
    async def work(url: str) -> Any:
        turns = [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": None},
            {"role": "user", "content": "y"},
        ]
        names = ("temperature", "top_p", "n", "stream", "seed", "stop", "max_tokens", "model")
        async with httpx2.AsyncClient() as client:
            body = {"messages": turns, **dict.fromkeys(names)}
            return await client.post(f"{url}/chat/completions", json=body)

    engine = ScriptedEngine("inner", ["Q"])
    assert served(engine, work).json()["choices"][0]["message"]["content"] == "Q"
    asked = engine.requests[0]
    assert asked.sampling == Sampling(0.0, 1.0, None)
    assert [m.content for m in asked.messages] == ["x", "", "y"]


@pytest.mark.parametrize("streams", [True, False])
def test_auto_goes_past_an_engine_that_cannot_hold_the_contract(streams: bool) -> None:
    canvas = ScriptedEngine("canvas", lambda _: '{"age": 3}', refuses=["text", "regex"])

    async def work(url: str) -> None:
        async with canvas, httpx2.AsyncClient() as client:
            body = {"messages": [{"role": "user", "content": "x"}], "stream": streams}
            found = await client.post(f"{url}/chat/completions", json=body)
            assert (found.status_code, "Q" in found.text) == (200, True)
            held = {"structured_outputs": {"json": PERSON.schema}}
            found = await client.post(f"{url}/chat/completions", json={**body, **held})
            assert "age" in found.text
            assert len(canvas.requests) == 1
            none = {"structured_outputs": {"regex": "Q"}}
            found = await client.post(f"{url}/chat/completions", json={**body, **none})
            assert (found.status_code, "'canvas' holds no regex" in found.text) == (400, True)

    inner = Slow("inner", lambda _: "Q", refuses=["regex"])
    served(inner, work, before={"canvas": canvas})


def test_tools_are_not_had() -> None:
    async def work(url: str) -> Any:
        preset = presets()["carrara-server"].but({"base_url": url, "tools": True}, "t")
        async with RemoteEngine("far", preset, key=Key("")) as remote:
            await remote.use_tools(asking(), (Tool("f", "", {}),))

    with pytest.raises(EngineRefused, match="tools"):
        served(ScriptedEngine("inner", ["x"]), work)
