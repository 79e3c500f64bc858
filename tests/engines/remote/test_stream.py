"""Streams are read whatever their chunks, and one that ends too early is an error with what had come."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.engines.errors import (
    BadReply,
    EngineBusy,
    EngineError,
    EngineFailed,
    EngineRefused,
    EngineTimeout,
    QuotaExhausted,
    StreamCut,
)
from carrara.engines.remote.engine import RemoteEngine
from carrara.engines.remote.keys import Key
from carrara.engines.request import Limits, Message, Progress, Request, Usage


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


@pytest.mark.parametrize("how", ["stalls", "is cut", "pings on"])
def test_an_answer_that_has_told_its_end_is_whole_whatever_follows(net: Any, how: str) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    raw = net.events(net.deltas("a", "ll", usage=False), done=False)

    async def pings(asked: Any, writer: Any) -> None:
        writer.write(head + raw)
        while True:
            writer.write(net.events(['{"choices": []}'], done=False))
            await writer.drain()
            await asyncio.sleep(0.005)

    ways = {"stalls": net.pieces([raw, None]), "is cut": net.pieces([raw], cut=True)}
    preset = net.PLAIN.but({"timeouts": {"tail_s": 0.1, "read_s": 60}}, "test")
    completion, texts, _ = shown(
        net, ways.get(how, pings), preset=preset, limits=Limits(max_tokens=8, deadline_s=20)
    )
    assert (completion.text, completion.stop, texts) == ("all", "end", ["a", "all"])
    assert completion.usage == Usage()


@pytest.mark.parametrize("how", ["stalls", "is cut"])
def test_usage_that_came_behind_the_end_is_kept_whatever_follows(net: Any, how: str) -> None:
    raw = net.events(net.deltas("all"), done=False)
    behaviour = net.pieces([raw, None]) if how == "stalls" else net.pieces([raw], cut=True)
    preset = net.PLAIN.but({"timeouts": {"read_s": 0.1}}, "test")  # shorter than the tail
    completion, _, _ = shown(net, behaviour, preset=preset)
    assert (completion.text, completion.usage) == ("all", Usage(12, 0, 3, 3))


def test_an_error_behind_the_end_is_one(net: Any) -> None:
    told = '{"error": {"message": "died", "code": 500}}'
    with pytest.raises(EngineFailed, match="died"):
        shown(net, net.pieces([net.events([*net.deltas("all", usage=False), told])]))


def test_done_is_enough_without_a_reason_for_the_end(net: Any) -> None:
    raw = net.events(net.deltas("all", reason=None, usage=False))
    completion, _, _ = shown(net, net.pieces([raw]))
    assert (completion.text, completion.stop) == ("all", "end")


@pytest.mark.parametrize("texts", [(), ("half of",)])
def test_a_stream_without_a_reason_for_its_end_was_cut(net: Any, texts: tuple[str, ...]) -> None:
    raw = net.events(net.deltas(*texts, reason=None, usage=False), done=not texts)
    with pytest.raises(StreamCut, match="in the middle") as caught:
        shown(net, net.pieces([raw]))
    assert (caught.value.text, caught.value.phase) == ("".join(texts), "read")


def test_a_connection_that_breaks_is_an_error_of_the_reading(net: Any) -> None:
    raw = net.events(net.deltas("half", reason=None, usage=False), done=False)
    with pytest.raises(StreamCut) as caught:
        shown(net, net.pieces([raw], cut=True))
    assert (caught.value.phase, caught.value.text) == ("read", "half")
    assert caught.value.engine == "test"


def test_what_had_come_before_an_error_is_told_with_it(net: Any) -> None:
    begun = net.deltas("half", reason=None)
    with pytest.raises(EngineFailed, match="an event that is no JSON") as caught:
        shown(net, net.pieces([net.events([*begun, "{oops"])]))
    assert (caught.value.text, caught.value.usage) == ("half", Usage(12, 0, 3, 3))
    told = net.events([*begun, '{"error": {"message": "died", "code": 500}}'])
    with pytest.raises(EngineFailed, match="died") as caught:
        shown(net, net.pieces([told]))
    assert caught.value.text == "half"
    assert caught.value.has_worked


def test_the_body_of_a_broken_answer_is_told_with_the_error(net: Any) -> None:
    body = b'{"choices": [{"message": {"content": "half'
    with pytest.raises(BadReply) as caught:
        net.complete(net.pieces([body], kind="application/json"))
    assert caught.value.text == body.decode()
    with pytest.raises(StreamCut) as cut:
        net.complete(net.pieces([body], kind="application/json", cut=True))
    assert cut.value.text == body.decode()


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


ERRORS: list[tuple[str, type[EngineError], int]] = [
    (
        '{"error": {"message": "m", "type": "requests", "code": "rate_limit_exceeded"}}',
        EngineBusy,
        429,
    ),
    ('{"error": {"message": "m", "code": "429"}}', EngineBusy, 429),
    ('{"error": {"message": "m", "type": "invalid_request_error"}}', EngineRefused, 400),
    ('{"type": "error", "error": {"type": "overloaded_error", "message": "m"}}', EngineBusy, 529),
    ('{"error": {"message": "m", "type": "insufficient_quota"}}', QuotaExhausted, 429),
    ('{"object": "error", "message": "m", "code": 400}', EngineRefused, 400),
    (
        '{"choices": [{"delta": {}, "finish_reason": "error", "error": {"code": 502}}]}',
        EngineBusy,
        502,
    ),
    ('[{"error": {"message": "m", "status": "UNAVAILABLE"}}]', EngineBusy, 503),
    ('{"error": "m"}', EngineFailed, 500),
]


@pytest.mark.parametrize(("data", "kind", "status"), ERRORS)
@pytest.mark.parametrize("how", ["in a stream", "in place of a stream", "in place of an answer"])
def test_an_error_after_status_200_is_that_error(
    net: Any, data: str, kind: type[EngineError], status: int, how: str
) -> None:
    streamed = net.pieces([net.events([*net.deltas("x", reason=None), data])])
    watch = None if how == "in place of an answer" else lambda progress: None
    with pytest.raises(EngineError) as caught:
        net.complete(streamed if how == "in a stream" else net.answer(data), watch=watch)
    assert (type(caught.value), caught.value.status) == (kind, status)


@pytest.mark.parametrize("data", ['{"message": "engine died", "code": 500}', "engine died"])
def test_an_event_named_error_is_one(net: Any, data: str) -> None:
    begun = net.events(net.deltas("x", reason=None, usage=False), done=False)
    with pytest.raises(EngineFailed, match="answered 500: engine died"):
        shown(net, net.pieces([begun, f"event: error\ndata: {data}\n\n".encode()]))


def test_an_error_of_null_is_none(net: Any) -> None:
    datas = [json.dumps({**json.loads(one), "error": None}) for one in net.deltas("fine")]
    assert shown(net, net.pieces([net.events(datas)]))[0].text == "fine"
    assert net.complete(net.answer(net.chat("fine") | {"error": None}))[0].text == "fine"


def test_choices_beside_the_first_are_left_out(net: Any) -> None:
    first, *rest = (json.loads(one) for one in net.deltas("one"))
    other = json.loads(
        json.dumps(first).replace('"one"', '"two"').replace('"index": 0', '"index": 1')
    )
    datas = [json.dumps(one) for one in (first, other, *rest)]
    assert shown(net, net.pieces([net.events(datas)]))[0].text == "one"


def test_a_text_in_parts_is_joined(net: Any) -> None:
    said = json.dumps([{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}])
    datas = [one.replace('"hello"', said) for one in net.deltas("hello")]
    assert shown(net, net.pieces([net.events(datas)]))[0].text == "hello"


def test_a_pair_that_is_parted_by_chunks_is_joined(net: Any) -> None:
    datas = [json.dumps(json.loads(one)) for one in net.deltas("a\ud83d", "\ude00b")]
    completion, texts, _ = shown(net, net.pieces([net.events(datas)]))
    assert (completion.text, texts) == ("a😀b", ["a", "a😀b"])


def test_a_byte_order_mark_is_no_part_of_an_answer(net: Any) -> None:
    streamed = b"\xef\xbb\xbf" + net.events(net.deltas("be", "st"))
    for raw in (net.pieces([streamed]), net.pieces([bytes([one]) for one in streamed])):
        completion, texts, _ = shown(net, raw)
        assert (completion.text, texts) == ("best", ["be", "best"])
    whole = "\ufeff" + json.dumps({"choices": [{"message": {"content": "best"}}]})
    assert net.complete(net.answer(whole))[0].text == "best"


def test_keeping_a_connection_alive_is_silence(net: Any) -> None:
    preset = net.PLAIN.but({"timeouts": {"read_s": 0.05}}, "test")

    async def behave(asked: Any, writer: Any) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        )
        while True:
            writer.write(b': wait\n\nevent: ping\ndata: {"type": "ping"}\n\n')
            await writer.drain()
            await asyncio.sleep(0.005)

    with pytest.raises(EngineTimeout, match=r"timeouts\.read_s"):
        shown(net, behave, preset=preset, limits=Limits(max_tokens=8, deadline_s=5))


@pytest.mark.parametrize("part", ["head", "body"])
@pytest.mark.parametrize("status", ["200 OK", "500 Broken"])
@pytest.mark.parametrize("streams", [False, True])
def test_a_whole_answer_that_drips_ends_by_the_read_timeout(
    net: Any, part: str, status: str, streams: bool
) -> None:
    async def behave(asked: Any, writer: Any) -> None:
        writer.write(f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n".encode())
        if part == "body":
            writer.write(b"Connection: close\r\n\r\n")
        else:
            writer.write(b"X-Long: ")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.005)

    preset = net.PLAIN.but({"timeouts": {"read_s": 0.1}}, "test")
    more = {"watch": lambda progress: None} if streams else {}
    limits = Limits(max_tokens=8, deadline_s=20)
    with pytest.raises(EngineTimeout, match=r"timeouts\.read_s") as caught:
        net.complete(behave, preset=preset, limits=limits, **more)
    assert ("its whole answer" in str(caught.value)) == (part == "body")
    assert caught.value.phase == ("read" if part == "body" else "wait")


def test_waiting_for_a_connection_is_no_part_of_the_read_timeout(net: Any) -> None:
    async def slow(asked: Any, writer: Any) -> None:
        await asyncio.sleep(0.3)
        await net.answer(net.chat("hi"))(asked, writer)

    async def run() -> list[str]:
        async with net.Server([slow]) as server:
            changes = {"base_url": server.url, "concurrency": 1, "timeouts": {"read_s": 0.6}}
            preset = net.PLAIN.but(changes, "test")
            async with RemoteEngine("test", preset, key=Key("")) as engine:
                ask = Request((Message("user", "x"),))
                found = await asyncio.gather(*(engine.complete(ask) for _ in range(4)))
        return [one.text for one in found]

    assert asyncio.run(run()) == ["hi"] * 4


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
def test_an_answer_that_is_not_packed_as_it_says_is_told_as_that(
    net: Any, streams: bool, kind: str
) -> None:
    more = {"watch": lambda progress: None} if streams else {}
    behaviour = net.answer("not packed", kind=kind, Content_Encoding="gzip")
    with pytest.raises(BadReply, match="not packed as its Content-Encoding says") as caught:
        net.complete(behaviour, **more)
    assert caught.value.phase == "parse"


def test_one_event_may_be_as_long_as_an_answer(net: Any) -> None:
    text = "long " * 500_000
    completion, _, _ = shown(
        net, net.pieces([net.events(net.deltas(text))]), limits=Limits(max_tokens=100_000)
    )
    assert completion.text == text


def test_an_event_beyond_that_is_told_as_too_long(
    net: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carrara.engines.remote.line._MOST_BYTES", 10_000)
    for parts in ([b"data: " + b"x" * 20_000, None], [b"data: " + b"x" * 20_000 + b"\n\n"]):
        with pytest.raises(BadReply, match="sent over 10,000 bytes"):
            shown(net, net.pieces(parts))


def test_a_server_that_writes_on_and_on_is_left(net: Any) -> None:
    async def behave(asked: Any, writer: Any) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        )
        while True:
            writer.write(net.events(net.deltas("x" * 100, reason=None, usage=False), done=False))
            await writer.drain()

    completion, _, _ = shown(net, behave, limits=Limits(max_tokens=8, deadline_s=30))
    assert (len(completion.text), completion.stop) == (8 * 256, "length")


def test_chunks_of_the_wrong_shape_are_no_crash(net: Any) -> None:
    for data in (
        "[1]",
        '{"choices": 3}',
        '{"choices": [4]}',
        '"text"',
        '{"choices": [{"delta": "text"}]}',
        '{"choices": [{"delta": {"tool_calls": [{"function": "f"}]}}]}',
    ):
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
