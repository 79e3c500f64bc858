"""Streams are read whatever their chunks, and one that ends too early is an error with what had come."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.engines.errors import BadReply, EngineFailed, EngineTimeout, StreamCut
from carrara.engines.remote.engine import RemoteEngine
from carrara.engines.remote.keys import Key
from carrara.engines.request import Message, Progress, Request


def shown(net: Any, behaviour: Any, **more: Any) -> tuple[Any, list[str], Any]:
    seen: list[Progress] = []
    completion, server, _ = net.complete(behaviour, watch=seen.append, **more)
    return completion, [progress.text for progress in seen], server


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_byte_may_come_alone(net: Any, end: str) -> None:
    whole = net.events(net.deltas("Grüß ", "Gott, 世界 ", "👋🏽"), end)
    completion, texts, server = shown(net, net.pieces(bytes([byte]) for byte in whole))
    assert completion.text == "Grüß Gott, 世界 👋🏽"
    assert texts == ["Grüß ", "Grüß Gott, 世界 ", "Grüß Gott, 世界 👋🏽"]
    assert server.asked[0].body["stream"] is True
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (12, 3)


@settings(max_examples=15, deadline=None)
@given(
    text=st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=12),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=8),
)
def test_any_text_in_any_chunks_comes_whole(net: Any, text: str, cuts: list[int]) -> None:
    whole, parts, at = net.events(net.deltas(*text)), [], 0
    for size in cuts * (len(net.events(net.deltas(*text))) // sum(cuts) + 1):
        parts.append(whole[at : at + size])
        at += size
    completion, _, _ = shown(net, net.pieces(part for part in parts if part))
    assert completion.text == text


def test_comments_names_ids_and_empty_events_are_passed_over(net: Any) -> None:
    first, *rest = net.deltas("a", "b")
    raw = f": keep-alive\n\n\n\nid: 7\nevent: message\nretry: 10\ndata: {first}\n\n: x\n\n".encode()
    completion, texts, _ = shown(net, net.pieces([raw, net.events(rest)]))
    assert (completion.text, texts) == ("ab", ["a", "ab"])


def test_a_reason_for_the_end_is_enough_without_done(net: Any) -> None:
    completion, _, _ = shown(net, net.pieces([net.events(net.deltas("all"), done=False)]))
    assert (completion.text, completion.stop) == ("all", "end")


@pytest.mark.parametrize("done", [True, False])
def test_a_stream_without_a_reason_for_its_end_was_cut(net: Any, done: bool) -> None:
    raw = net.events(net.deltas("half of", reason=None, usage=False), done=done)
    with pytest.raises(StreamCut, match="in the middle") as caught:
        shown(net, net.pieces([raw]))
    assert (caught.value.text, caught.value.phase) == ("half of", "read")


def test_a_connection_that_breaks_is_an_error_of_the_reading(net: Any) -> None:
    raw = net.events(net.deltas("half", reason=None, usage=False), done=False)
    with pytest.raises(StreamCut) as caught:
        shown(net, net.pieces([raw], cut=True))
    assert caught.value.phase == "read"
    assert caught.value.engine == "test"


def test_half_an_event_at_the_end_is_no_event(net: Any) -> None:
    raw = net.events(net.deltas("one", reason=None, usage=False), done=False) + b'data: {"choi'
    with pytest.raises(StreamCut) as caught:
        shown(net, net.pieces([raw]))
    assert caught.value.text == "one"


def test_an_event_that_is_no_json_is_named(net: Any) -> None:
    with pytest.raises(BadReply, match=r"an event that is no JSON.*oops") as caught:
        shown(net, net.pieces([b"data: {oops\n\n"]))
    assert caught.value.phase == "parse"


def test_another_content_type_is_named_with_its_words(net: Any) -> None:
    page = net.pieces([b"<html>Welcome to the proxy</html>"], kind="text/html")
    with pytest.raises(BadReply, match=r"text/html instead of a stream.*Welcome"):
        shown(net, page)


def test_a_server_that_does_not_stream_is_understood(net: Any) -> None:
    completion, texts, _ = shown(net, net.answer(net.chat("at once")))
    assert (completion.text, texts) == ("at once", [])


def test_an_error_inside_a_stream_has_its_own_class(net: Any) -> None:
    told = {"error": {"message": "engine died", "type": "server_error", "code": 500}}
    with pytest.raises(EngineFailed, match="engine died"):
        shown(net, net.pieces([net.events([*net.deltas("x", reason=None), json.dumps(told)])]))


def test_chunks_of_the_wrong_shape_are_no_crash(net: Any) -> None:
    for data in ("[1]", '{"choices": 3}', '{"choices": [4]}', '"text"'):
        with pytest.raises(BadReply):
            shown(net, net.pieces([net.events([data])]))


def test_silence_in_the_middle_ends_by_the_read_timeout(net: Any) -> None:
    raw = net.events(net.deltas("be", reason=None, usage=False), done=False)
    preset = net.PLAIN.but({"timeouts": {"read_s": 0.05}}, "test")
    with pytest.raises(EngineTimeout, match="nothing more of its answer") as caught:
        shown(net, net.pieces([raw, None]), preset=preset)
    assert caught.value.phase == "read"


@pytest.mark.parametrize("streams", [True, False])
def test_cancelling_closes_the_connection(net: Any, streams: bool) -> None:
    async def run() -> None:
        begun = net.events(net.deltas("be", reason=None, usage=False), done=False)
        behaviour = net.pieces([begun, None]) if streams else net.stall
        async with net.Server([behaviour]) as server:
            engine = RemoteEngine(
                "test", net.PLAIN.but({"base_url": server.url}, "test"), key=Key("")
            )
            async with engine:
                watch = (lambda progress: None) if streams else None
                request = Request((Message("user", "Say it."),))
                task = asyncio.create_task(engine.complete(request, watch))
                await server.came.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await asyncio.wait_for(server.left.wait(), 5)

    asyncio.run(run())


def test_leaving_the_engine_ends_what_is_in_flight(net: Any) -> None:
    async def run() -> None:
        async with net.Server([net.stall]) as server:
            engine = RemoteEngine(
                "test", net.PLAIN.but({"base_url": server.url}, "test"), key=Key("")
            )
            async with engine:
                task = asyncio.create_task(engine.complete(Request((Message("user", "x"),))))
                await server.came.wait()
            with pytest.raises(EngineFailed, match="closed while it worked"):
                await task
            with pytest.raises(EngineFailed, match="not open"):
                await engine.complete(Request((Message("user", "x"),)))

    asyncio.run(run())
