"""Bodies as the services' references describe them, and answers of the shapes that they show."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from carrara.engines.contract import Choice, Json
from carrara.engines.errors import BadReply, ContentFiltered, EngineBusy, StreamCut
from carrara.engines.remote.anthropic_wire import AnthropicMessages
from carrara.engines.remote.gemini_wire import GeminiContent
from carrara.engines.remote.keys import Key
from carrara.engines.remote.openai_wire import OpenAiChat, OpenAiText
from carrara.engines.remote.preset import presets
from carrara.engines.remote.reading import read
from carrara.engines.remote.reply import Call, Reply, Tool
from carrara.engines.remote.wire import Ask, Wire, Wrong, key_headers
from carrara.engines.request import Confidence, Message, Sampling, Usage

TURNS = (
    Message("system", "Be short."),
    Message("user", "Hi"),
    Message("assistant", "Hello"),
    Message("user", "A city?"),
)
NAMES = (
    "choices message delta content text role type tool_calls function name arguments index logprobs tokens "
    "token_logprobs token logprob top_logprobs confidence overall fields finish_reason candidates parts functionCall "
    "logprobsResult chosenCandidates topCandidates finishReason promptFeedback usage usageMetadata content_block "
    "stop_reason input refusal model"
)
HALF_A_PAIR = {"tokens": ["\ud83d"], "token_logprobs": [-1.0]}
NO_TOPS = {"chosenCandidates": [{"token": "\ud83d"}], "topCandidates": [None]}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = Tool("weather", "The weather of a city.", SCHEMA)


def ask(service: str, **more: Any) -> Ask:
    return Ask(presets()[service], TURNS, 50, Sampling(0.5, 0.9, 7), **more)


def test_openai_bodies_are_as_its_reference_has_them() -> None:
    body = OpenAiChat().body(
        ask(
            "openai",
            stop=("\n",),
            schema=SCHEMA,
            schema_name="a city!",
            top_logprobs=3,
            stream=True,
            tools=(TOOL,),
        )
    )
    assert body == {
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "A city?"},
        ],
        "max_completion_tokens": 50,
        "logprobs": True,
        "top_logprobs": 3,
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "description": TOOL.description,
                    "parameters": SCHEMA,
                },
            }
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "a_city_", "schema": SCHEMA, "strict": True},
        },
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["\n"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert OpenAiChat().headers(Key("sk-1234")) == {"Authorization": "Bearer sk-1234"}
    assert OpenAiChat().headers(Key("")) == {}


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.just(10**400),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES.split()), inner, max_size=5)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(wire=st.sampled_from([OpenAiChat, OpenAiText, AnthropicMessages, GeminiContent]), body=TREES)
@example(OpenAiText, {"choices": [{"text": "x", "logprobs": HALF_A_PAIR}]})
@example(OpenAiChat, {"choices": [{"message": {}, "confidence": {"overall": 10**400}}]})
@example(GeminiContent, {"candidates": [{"logprobsResult": {"chosenCandidates": ["ok"]}}]})
@example(GeminiContent, {"candidates": [{"logprobsResult": NO_TOPS}]})
def test_no_body_breaks_a_wire_format(wire: type[Wire], body: Any) -> None:
    """It is an answer, or it is Wrong."""
    for take in (lambda: read(wire(), body), lambda: wire().add(Reply(), "message", body)):
        with suppress(Wrong):
            take()


def test_a_confidence_is_between_0_and_1_or_unknown() -> None:
    told = {"overall": float("nan"), "fields": {"/a": 0.5, "/b": 10**400, "/c": True}}
    found = OpenAiChat().read({"choices": [{"message": {"content": "x"}, "confidence": told}]})
    assert found.sure == Confidence(None, {"/a": 0.5})


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (GeminiContent, {"candidates": [{"finishReason": "OTHER"}]}),
        (GeminiContent, {"candidates": [{"finishReason": "UNEXPECTED_TOOL_CALL"}]}),
        (AnthropicMessages, {"content": [], "stop_reason": "pause_turn"}),
        (OpenAiText, {"choices": [{"text": "", "finish_reason": "abort"}]}),
    ],
)
def test_answers_that_were_given_up_are_known(wire: type[Wire], body: Any) -> None:
    assert wire().read(body).end == "broken"


def test_openai_tool_calls_come_whole_and_in_pieces() -> None:
    body = {
        "choices": [
            {
                "finish_reason": "tool_calls",
                "message": {
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{"city":"Rome"}'},
                        }
                    ],
                },
            }
        ]
    }
    call = Call("c1", "weather", '{"city":"Rome"}')
    assert OpenAiChat().read(body).calls == [call]
    reply = Reply()
    pieces: list[dict[str, Any]] = [
        {"index": 0, "id": "c1", "function": {"name": "weather", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"city":'}},
        {"index": 0, "function": {"arguments": '"Rome"}'}},
    ]
    for piece in pieces:
        OpenAiChat().add(reply, "message", {"choices": [{"delta": {"tool_calls": [piece]}}]})
    assert reply.calls == [call]
    with pytest.raises(Wrong):
        OpenAiChat().add(reply, "message", {"choices": [{"delta": {"tool_calls": [{"index": 5}]}}]})


def test_plain_completions_have_a_prompt_and_a_text() -> None:
    body = OpenAiText().body(ask("vllm-server", top_logprobs=2))
    assert body["prompt"] == "Be short.\n\nHi\n\nHello\n\nA city?"
    assert (body["max_tokens"], body["logprobs"]) == (50, 2)
    found = OpenAiText().read(
        {
            "choices": [
                {
                    "text": " Rome",
                    "finish_reason": "length",
                    "logprobs": {"tokens": [" Rome"], "token_logprobs": [-0.5]},
                }
            ]
        }
    )
    assert (found.text, found.end, found.tokens[0].raw) == (" Rome", "length", b" Rome")


def test_anthropic_bodies_are_as_its_reference_has_them() -> None:
    body = AnthropicMessages().body(
        ask("anthropic", stop=("END",), schema=SCHEMA, stream=True, tools=(TOOL,))
    )
    assert body == {
        "model": "claude-sonnet-4-5",
        "max_tokens": 50,
        "system": "Be short.",
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "A city?"},
        ],
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        "tools": [{"name": "weather", "description": TOOL.description, "input_schema": SCHEMA}],
        "stream": True,
    }
    assert AnthropicMessages().headers(Key("k-123")) == {"x-api-key": "k-123"}


ANTHROPIC = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "Rome"},
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Rome"}},
    ],
    "stop_reason": "end_turn",
    "usage": {
        "input_tokens": 5,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "output_tokens": 3,
    },
}


def test_anthropic_answers_are_read() -> None:
    found = AnthropicMessages().read(ANTHROPIC)
    assert (found.text, found.end, found.usage) == ("Rome", "end", Usage(125, 100, 3, 3))
    assert found.calls == [Call("t1", "weather", '{"city": "Rome"}')]


def anthropic_events(*more: Any) -> bytes:
    listed: list[dict[str, Any]] = [
        {
            "type": "message_start",
            "message": {"model": "claude-x", "usage": {"input_tokens": 9, "output_tokens": 1}},
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Ro"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "me"}},
        {"type": "content_block_stop", "index": 0},
        *more,
    ]
    return "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in listed).encode()


ANTHROPIC_END = (
    {
        "type": "message_delta",
        "delta": {"stop_reason": "max_tokens"},
        "usage": {"output_tokens": 2},
    },
    {"type": "message_stop"},
)


def hosted(net: Any, name: str, **more: Any) -> Any:
    model = presets()[name].model or "small-1"
    return presets()[name].but({"timeouts": {"read_s": 5}, "model": model, **more}, "test")


def test_an_anthropic_stream_is_read(net: Any) -> None:
    seen: list[str] = []
    completion, server, _ = net.complete(
        net.pieces([anthropic_events(*ANTHROPIC_END)]),
        watch=lambda progress: seen.append(progress.text),
        preset=hosted(net, "anthropic"),
    )
    assert (completion.text, completion.stop, seen) == ("Rome", "length", ["Ro", "Rome"])
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (9, 2)
    asked = server.asked[0]
    assert (asked.path, asked.headers["anthropic-version"]) == ("/v1/messages", "2023-06-01")


def test_an_anthropic_stream_that_stops_or_fails_is_an_error(net: Any) -> None:
    preset, watch = hosted(net, "anthropic"), lambda progress: None
    with pytest.raises(StreamCut):
        net.complete(net.pieces([anthropic_events()]), watch=watch, preset=preset)
    told = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with pytest.raises(EngineBusy, match="Overloaded"):
        net.complete(net.pieces([anthropic_events(told)]), watch=watch, preset=preset)


def test_an_anthropic_refusal_is_one(net: Any) -> None:
    body = ANTHROPIC | {"stop_reason": "refusal", "content": []}
    with pytest.raises(ContentFiltered):
        net.complete(net.answer(body), preset=hosted(net, "anthropic"))


def test_gemini_bodies_are_as_its_reference_has_them() -> None:
    wire, question = (
        GeminiContent(),
        ask("gemini", stop=("END",), schema=SCHEMA, top_logprobs=2, tools=(TOOL,)),
    )
    assert wire.body(question) == {
        "contents": [
            {"role": "user", "parts": [{"text": "Hi"}]},
            {"role": "model", "parts": [{"text": "Hello"}]},
            {"role": "user", "parts": [{"text": "A city?"}]},
        ],
        "generationConfig": {
            "maxOutputTokens": 50,
            "temperature": 0.5,
            "topP": 0.9,
            "seed": 7,
            "stopSequences": ["END"],
            "responseMimeType": "application/json",
            "responseJsonSchema": SCHEMA,
            "responseLogprobs": True,
            "logprobs": 2,
        },
        "systemInstruction": {"parts": [{"text": "Be short."}]},
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "weather",
                        "description": TOOL.description,
                        "parametersJsonSchema": SCHEMA,
                    }
                ]
            }
        ],
    }
    assert wire.path(question) == "/models/gemini-2.5-flash:generateContent"
    assert wire.path(ask("gemini", stream=True)).endswith(":streamGenerateContent?alt=sse")
    assert wire.headers(Key("g-123")) == {"x-goog-api-key": "g-123"}
    gateway = replace(presets()["gemini"], key_header="authorization")
    assert key_headers(wire, gateway, Key("g-123")) == {"authorization": "Bearer g-123"}
    assert key_headers(wire, gateway, Key("")) == {}


GEMINI = {
    "candidates": [
        {
            "content": {
                "role": "model",
                "parts": [
                    {"text": "thinking…", "thought": True},
                    {"text": "Rome"},
                    {"functionCall": {"id": "f1", "name": "weather", "args": {"city": "Rome"}}},
                ],
            },
            "finishReason": "STOP",
            "logprobsResult": {
                "chosenCandidates": [{"token": "Rome", "logProbability": -0.1}],
                "topCandidates": [{"candidates": [{"token": "Rome", "logProbability": -0.1}]}],
            },
        }
    ],
    "usageMetadata": {
        "promptTokenCount": 30,
        "cachedContentTokenCount": 20,
        "candidatesTokenCount": 2,
        "thoughtsTokenCount": 5,
    },
    "modelVersion": "gemini-2.5-flash-001",
}


def test_gemini_answers_are_read() -> None:
    found = GeminiContent().read(GEMINI)
    assert (found.text, found.end, found.usage) == ("Rome", "end", Usage(30, 20, 7, 7))
    assert found.calls == [Call("f1", "weather", '{"city": "Rome"}')]
    assert found.tokens[0].raw == b"Rome"
    assert found.model == "gemini-2.5-flash-001"


def test_a_gemini_stream_ends_by_its_finish_reason(net: Any) -> None:
    parts: list[dict[str, Any]] = [
        {"candidates": [{"content": {"parts": [{"text": "Ro"}]}}]},
        {
            "candidates": [{"content": {"parts": [{"text": "me"}]}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 4},
        },
    ]
    watch, preset = (lambda progress: None), hosted(net, "gemini")
    whole = net.events(map(json.dumps, parts), "\r\n", done=False)
    completion, server, _ = net.complete(net.pieces([whole]), watch=watch, preset=preset)
    assert (completion.text, completion.usage.prompt_tokens) == ("Rome", 4)
    assert server.asked[0].path.endswith(":streamGenerateContent?alt=sse")
    with pytest.raises(StreamCut):
        net.complete(
            net.pieces([net.events([json.dumps(parts[0])], done=False)]), watch=watch, preset=preset
        )


def test_gemini_refusals_of_prompt_and_answer_are_told(net: Any) -> None:
    for body in (
        {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}},
        {"candidates": [{"finishReason": "SAFETY"}]},
    ):
        with pytest.raises(ContentFiltered):
            net.complete(net.answer(body), preset=hosted(net, "gemini"))
    with pytest.raises(BadReply, match="no candidate"):
        net.complete(net.answer({"candidates": []}), preset=hosted(net, "gemini"))


@pytest.mark.parametrize("name", [name for name, one in presets().items() if one.wire == "openai"])
def test_every_openai_preset_makes_a_request_and_reads_the_answer(net: Any, name: str) -> None:
    preset = hosted(net, name, pins=False, decisions=False)
    output = Json.of(SCHEMA | {"additionalProperties": False})
    completion, server, _ = net.complete(
        net.answer(net.chat('{"city": "Rome"}')), output=output, preset=preset
    )
    assert completion.value == {"city": "Rome"}
    assert completion.usage == Usage(12, 8, 3, 3)
    sent = server.asked[0].body
    assert ("response_format" in sent) == (preset.schema != "none")
    assert ("temperature" in sent) == preset.temperature


def test_a_choice_goes_by_the_servers_own_form_where_it_has_one(net: Any) -> None:
    options = Choice(("red", "blue"))
    found, server, _ = net.complete(
        net.answer(net.chat("blue")), output=options, preset=hosted(net, "vllm-server")
    )
    assert (found.value, server.asked[0].body["structured_outputs"]) == (
        "blue",
        {"choice": ["red", "blue"]},
    )
    body = net.answer(net.chat('{"answer": "blue"}'))
    found, server, _ = net.complete(body, output=options, preset=hosted(net, "openai"))
    assert (found.value, found.text) == ("blue", "blue")
    schema = server.asked[0].body["response_format"]["json_schema"]["schema"]
    assert schema["properties"] == {"answer": {"type": "string", "enum": ["red", "blue"]}}
    assert (schema["required"], schema["additionalProperties"]) == (["answer"], False)
