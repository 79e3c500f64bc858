"""Whatever goes wrong at a server or on the way to it is one of our errors, with its phase and what to do."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from carrara.engines.errors import (
    AccessDenied,
    BadReply,
    ContentFiltered,
    ContextOverflow,
    EngineBusy,
    EngineError,
    EngineFailed,
    EngineRefused,
    EngineTimeout,
    QuotaExhausted,
    StreamCut,
    Unreachable,
)
from carrara.engines.remote.engine import RemoteEngine
from carrara.engines.remote.keys import NO_KEY, Key
from carrara.engines.remote.preset import Preset
from carrara.engines.remote.told import duration, told, wait_of
from carrara.engines.request import Limits, Message, Request


def openai(message: str, kind: str = "", code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic(message: str, kind: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


def gemini(message: str, status: str, *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": 1, "message": message, "status": status, "details": list(details)}}


PER_DAY = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}
TELLING: list[tuple[int, Any, type[EngineError]]] = [
    (429, openai("Rate limit reached", "requests", "rate_limit_exceeded"), EngineBusy),
    (429, openai("You exceeded your current quota", "insufficient_quota"), QuotaExhausted),
    (503, openai("The server is overloaded", "server_error"), EngineBusy),
    (529, anthropic("Overloaded", "overloaded_error"), EngineBusy),
    (
        400,
        openai("Conversation roles must alternate user/assistant; payment by card", "x"),
        EngineRefused,
    ),
    (400, anthropic("Your credit balance is too low", "invalid_request_error"), QuotaExhausted),
    (402, openai("Payment Required"), QuotaExhausted),
    (429, gemini("Quota exceeded", "RESOURCE_EXHAUSTED", PER_DAY), QuotaExhausted),
    (429, gemini("Quota exceeded", "RESOURCE_EXHAUSTED"), EngineBusy),
    (
        400,
        openai(
            "This model's maximum context length is 8192 tokens", "x", "context_length_exceeded"
        ),
        ContextOverflow,
    ),
    (
        400,
        anthropic("prompt is too long: 210000 tokens > 200000", "invalid_request_error"),
        ContextOverflow,
    ),
    (400, gemini("The input token count exceeds the maximum", "INVALID_ARGUMENT"), ContextOverflow),
    (
        400,
        openai("request exceeds the available context size", "exceed_context_size_error"),
        ContextOverflow,
    ),
    (
        400,
        openai("Your request was flagged by our safety system", "x", "content_filter"),
        ContentFiltered,
    ),
    (
        401,
        openai("Incorrect API key provided", "invalid_request_error", "invalid_api_key"),
        AccessDenied,
    ),
    (403, gemini("Permission denied", "PERMISSION_DENIED"), AccessDenied),
    (404, openai("The model `x` does not exist", "x", "model_not_found"), EngineRefused),
    (400, openai("messages: field required"), EngineRefused),
    (308, "moved", EngineRefused),
    (500, openai("CUDA error"), EngineFailed),
    (500, "<html><h1>Internal</h1> Server Error</html>", EngineFailed),
]


@pytest.mark.parametrize(("status", "body", "kind"), TELLING)
def test_each_answer_has_its_class(
    net: Any, status: int, body: Any, kind: type[EngineError]
) -> None:
    with pytest.raises(EngineError) as caught:
        net.complete(
            net.answer(body, status, kind="text/html" if body == "moved" else "application/json")
        )
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.phase, error.engine) == (status, "wait", "test")
    assert str(status) in str(error)
    assert "<h1>" not in str(error)


def test_the_wait_that_was_asked_for_is_told(net: Any) -> None:
    with pytest.raises(EngineBusy) as caught:
        net.complete(net.answer(openai("slow down"), 429, Retry_After="7"))
    assert caught.value.retry_after_s == 7.0


@pytest.mark.parametrize(("asked", "told"), [("0.25", "0.25"), ("7", "7"), ("3600", "3,600")])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_it_is_told_as_it_is_whatever_the_status(
    status: int, asked: str, told: str, net: Any
) -> None:
    with pytest.raises(
        EngineError, match=rf"slow down\. It asks for a wait of {told} s\."
    ) as caught:
        net.complete(net.answer(openai("slow down"), status, Retry_After=asked))
    assert caught.value.retry_after_s == float(asked)


@pytest.mark.parametrize("status", [429, 500])
def test_a_wait_that_is_over_already_is_none(status: int, net: Any) -> None:
    with pytest.raises(EngineError) as caught:
        net.complete(net.answer(openai("slow down"), status, Retry_After="-1"))
    assert caught.value.retry_after_s is None
    assert "wait" not in str(caught.value)


def test_an_ordinary_rate_limit_that_speaks_of_billing_is_no_used_up_quota(net: Any) -> None:
    words = (
        "Rate limit reached for gpt-4o in organization org-1 on requests per min (RPM): Limit 3, Used 3. Please try "
        "again in 1s. You can increase your rate limit by adding a payment method to your account at "
        "https://platform.openai.com/account/billing."
    )
    limit = net.answer(openai(words, "requests", "rate_limit_exceeded"), 429, Retry_After="1")
    with pytest.raises(EngineBusy) as caught:
        net.complete(limit)
    assert caught.value.retry_after_s == 1.0
    with pytest.raises(EngineBusy):
        net.complete(net.answer(openai("You exceeded your current quota"), 429, Retry_After="1"))
    quota = openai("m", "insufficient_quota", "insufficient_quota")
    with pytest.raises(QuotaExhausted):
        net.complete(net.answer(quota, 429, Retry_After="1"))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after-ms": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Fri, 31 Dec 999999999999 23:59:59 GMT"}, None),
        ({"retry-after": "Fri, 31 Dec 2030 23:59:59 +99999999999999"}, None),
        ({"retry-after": "1e9"}, 86400.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"x-ratelimit-remaining-tokens": "9", "x-ratelimit-reset-tokens": "120ms"}, None),
        ({}, None),
    ],
)
def test_waits_are_read_from_headers(headers: dict[str, str], seconds: float | None) -> None:
    assert wait_of(headers) == seconds


def test_a_date_to_wait_for_is_a_wait() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    found = wait_of({"retry-after": at})
    assert found is not None
    assert 55 < found <= 60
    assert wait_of({"retry-after": format_datetime(datetime.now(UTC) - timedelta(60))}) is None


def test_the_wait_in_a_body_is_read_where_no_header_has_one() -> None:
    body = '{"error": {"message": "m", "details": [{"retryDelay": "34.5s"}]}}'
    assert told(429, {}, body, NO_KEY).retry_after_s == 34.5
    assert told(429, {"retry-after": "1"}, body, NO_KEY).retry_after_s == 1.0


@given(st.text(max_size=20))
def test_no_text_breaks_the_reading_of_a_duration(text: str) -> None:
    found = duration(text)
    assert found is None or found >= 0


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=50)
@given(TREES)
@example(" ")
@example({"message": "x", "details": True})
@example({"message": "x", "details": [{"violations": 7, "retryDelay": "soon"}]})
@example({"message": "half \ud83d"})
def test_no_body_breaks_the_reading_of_an_error(body: Any) -> None:
    found = told(500, {}, json.dumps({"error": body}), Key("secret-secret-secret"))
    assert found.message.encode("utf-8")
    assert told(None, {}, json.dumps(body), NO_KEY).status >= 400


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"choices": [', "broken JSON"),
        ("[]", "another format"),
        ('{"choices": []}', "no choice"),
        ('{"choices": [{}]}', "the message"),
        ('{"choices": [{"message": {"content": 7}}]}', "the content is int"),
        ('{"choices": [{"message": {"content": [{"type": "audio"}]}}]}', r"no text \('audio'\)"),
        (r'{"choices": [{"message": {"content": "a\ud83d"}}]}', "half a surrogate pair"),
    ],
)
def test_an_answer_that_is_none_is_named(net: Any, body: str, words: str) -> None:
    with pytest.raises(BadReply, match=words) as caught:
        net.complete(net.answer(body))
    assert caught.value.phase == "parse"


def test_a_page_instead_of_an_answer_is_quoted(net: Any) -> None:
    with pytest.raises(BadReply, match=r"text/html instead of JSON.*Sign in"):
        net.complete(net.answer("<html>Sign in</html>", kind="text/html"))


def test_a_connection_closed_without_an_answer_is_told(net: Any) -> None:
    with pytest.raises(EngineFailed, match="without an answer") as caught:
        net.complete(net.hang_up)
    assert caught.value.phase == "wait"


def test_an_answer_that_breaks_off_is_told(net: Any) -> None:
    cut = net.pieces([b'{"choices"'], kind="application/json", cut=True)
    with pytest.raises(StreamCut) as caught:
        net.complete(cut)
    assert caught.value.phase == "read"


def test_a_server_that_stalls_ends_by_the_timeout_of_the_phase(net: Any) -> None:
    preset = net.PLAIN.but({"timeouts": {"read_s": 0.05}}, "test")
    with pytest.raises(EngineTimeout, match=r"timeouts\.read_s") as caught:
        net.complete(net.stall, preset=preset)
    assert caught.value.phase == "wait"


def test_a_server_that_stalls_ends_by_the_deadline_of_the_request(net: Any) -> None:
    with pytest.raises(EngineTimeout, match=r"deadline of 0.05 s"):
        net.complete(net.stall, limits=Limits(max_tokens=8, deadline_s=0.05))


def asked(url: str) -> EngineError:
    async def run() -> EngineError:
        engine = RemoteEngine("far", Preset("far", "Far", url, model="m"), key=Key("k"))
        async with engine:
            with pytest.raises(EngineError) as caught:
                await engine.complete(Request((Message("user", "x"),)))
            return caught.value

    return asyncio.run(run())


def test_a_host_that_is_not_known_is_told_as_dns() -> None:
    error = asked("https://no-such-host.invalid/v1")
    assert (type(error), error.phase) == (Unreachable, "connect")
    assert "DNS" in str(error)


def test_a_port_where_nothing_listens_is_told(net: Any) -> None:
    async def free_port() -> int:
        async with net.Server([net.stall]) as server:
            return int(server.port)

    error = asked(f"http://127.0.0.1:{asyncio.run(free_port())}/v1")
    assert (type(error), error.phase) == (Unreachable, "connect")
    assert "Is the server running?" in str(error)


def test_a_handshake_that_fails_is_told_as_tls() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 This is no TLS\r\n\r\n")
        await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def run() -> EngineError:
        async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            preset = Preset("far", "Far", f"https://127.0.0.1:{port}/v1", model="m")
            async with RemoteEngine("far", preset, key=Key("k")) as engine:
                with pytest.raises(Unreachable) as caught:
                    await engine.complete(Request((Message("user", "x"),)))
                return caught.value

    error = asyncio.run(run())
    assert error.phase == "connect"
    assert "TLS failed" in str(error)


def test_a_url_that_is_none_is_told() -> None:
    for url in ("no-scheme/v1", "http://[::1/v1", "ftp://host/v1"):
        assert asked(url).phase == "connect"


@pytest.mark.parametrize("reason", ["error", "abort"])
def test_an_answer_that_the_server_gave_up_is_not_taken_as_whole(net: Any, reason: str) -> None:
    with pytest.raises(StreamCut, match=reason) as caught:
        net.complete(net.answer(net.chat("half of", reason)))
    assert (caught.value.text, caught.value.phase) == ("half of", "read")


def test_half_a_surrogate_pair_in_a_prompt_is_sent_as_the_replacement_character(net: Any) -> None:
    _, server, _ = net.complete(net.answer(net.chat("fine")), "a\ud83db")
    assert server.asked[0].body["messages"][0]["content"] == "a\ufffdb"


@pytest.mark.parametrize("reason", ["content_filter"])
def test_a_filtered_answer_is_a_refusal(net: Any, reason: str) -> None:
    with pytest.raises(ContentFiltered) as caught:
        net.complete(net.answer(net.chat("", reason)))
    assert caught.value.phase == "read"


def test_a_refusal_in_words_is_one_too(net: Any) -> None:
    body = net.chat("")
    body["choices"][0]["message"]["refusal"] = "I cannot help with that."
    with pytest.raises(ContentFiltered, match="I cannot help"):
        net.complete(net.answer(body))
