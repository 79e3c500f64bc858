"""What a server refuses is left out from then on, and a contract that it cannot hold is asked for in words."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from carrara.engines.contract import Choice, Column, Json, Outline, Regex, Table, Text
from carrara.engines.contract_text import describe
from carrara.engines.errors import EngineFailed, EngineRefused, Unreachable
from carrara.engines.facts import Price
from carrara.engines.remote.engine import RemoteEngine
from carrara.engines.remote.keys import Key
from carrara.engines.remote.preset import Preset, presets
from carrara.engines.remote.reply import Call, Tool
from carrara.engines.request import Draft, Limits, Message, Request, Sampling, Usage

PERSON = Json.of(
    {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
    }
)
ABLE = {"schema": "full", "pattern": "schema", "logprobs": True, "seed": True, "tools": True}


def refusing(net: Any, refused: str, words: str, reply: str, status: int = 400) -> Any:
    """A server that refuses a request with the part `refused` in it."""

    async def behave(asked: Any, writer: Any) -> None:
        if refused in asked.body:
            error = {"error": {"message": words, "type": "invalid_request_error"}}
            await net.answer(error, status)(asked, writer)
        else:
            await net.answer(net.chat(reply))(asked, writer)

    return behave


@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_server_that_refuses_schemas_is_asked_in_words_and_never_again(
    net: Any, status: int
) -> None:
    words = "Structured outputs are not yet supported for diffusion language models. Remove `response_format`"
    server = refusing(net, "response_format", words, '{"name": "Ada", "age": 36}', status)
    preset = net.PLAIN.but(ABLE, "test")
    completion, seen, engine = net.complete([server], output=PERSON, preset=preset)
    assert completion.value == {"name": "Ada", "age": 36}
    assert "response_format" in seen.asked[0].body
    assert len(seen.asked) == 2
    assert describe(PERSON) in seen.asked[1].body["messages"][-1]["content"]
    assert "schema" not in engine.can
    assert "the server takes no schema" in engine.health().line


def test_a_server_that_breaks_while_it_speaks_of_a_schema_has_refused_none(net: Any) -> None:
    told = {"error": {"message": "database schema migration in progress", "type": "server_error"}}
    with pytest.raises(EngineFailed, match="migration") as caught:
        net.complete(net.answer(told, 500), output=PERSON, preset=net.PLAIN.but(ABLE, "test"))
    assert caught.value.status == 500


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("logprobs", "logprobs are not supported with this model"),
        (
            "seed",
            "The temperature, min_p, seed ... parameters are not yet supported with diffusion",
        ),
        ("temperature", "Unsupported value: 'temperature' does not support 0.0 with this model."),
        ("stop", "Unsupported parameter: 'stop' is not supported with this model."),
    ],
)
def test_other_parts_are_left_out_likewise(net: Any, part: str, words: str) -> None:
    preset = net.PLAIN.but(ABLE, "test")
    completion, seen, _ = net.complete(
        [refusing(net, part, words, "fine")],
        preset=preset,
        sampling=Sampling(0.0, 1.0, 3),
        stop=("###",),
    )
    assert completion.text == "fine"
    assert part not in seen.asked[-1].body
    assert 2 <= len(seen.asked) <= 3


def test_an_older_name_of_a_limit_is_found(net: Any) -> None:
    words = "Unrecognized request argument supplied: max_completion_tokens"
    preset = net.PLAIN.but({"max_tokens_name": "max_completion_tokens"}, "test")
    completion, seen, _ = net.complete(
        [refusing(net, "max_completion_tokens", words, "fine")], preset=preset
    )
    assert (completion.text, seen.asked[-1].body["max_tokens"]) == ("fine", 32)


def test_a_refusal_that_names_nothing_left_is_an_error(net: Any) -> None:
    refused = {"error": {"message": "response_format is broken here", "type": "x"}}
    with pytest.raises(EngineRefused, match="response_format"):
        net.complete(net.answer(refused, 400), output=PERSON, preset=net.PLAIN.but(ABLE, "test"))


def test_a_server_that_refuses_for_ever_is_asked_a_bounded_number_of_times(net: Any) -> None:
    words = "max_completion_tokens stream_options seed temperature logprobs schema stop structured_outputs"
    preset = net.PLAIN.but({**ABLE, "max_tokens_name": "max_completion_tokens"}, "test")
    with pytest.raises(EngineRefused):
        net.complete(
            net.answer({"error": {"message": words}}, 400),
            output=PERSON,
            preset=preset,
            sampling=Sampling(0.5, 1.0, 3),
            watch=lambda progress: None,
        )


def test_what_was_learned_holds_for_the_next_request(net: Any) -> None:
    async def run() -> None:
        behaviour = refusing(
            net, "response_format", "no json_schema here", '{"name": "A", "age": 1}'
        )
        async with net.Server([behaviour]) as server:
            preset = net.PLAIN.but({**ABLE, "base_url": server.url}, "test")
            async with RemoteEngine("test", preset, key=Key("")) as engine:
                for _ in range(3):
                    await engine.complete(Request((Message("user", "x"),), PERSON))
            assert len(server.asked) == 4

    asyncio.run(run())


@pytest.mark.parametrize(
    ("output", "raw", "text"),
    [
        (Choice(("yes", "no")), '"yes"', "yes"),
        (Regex(r"\d{4}-\d\d"), '"2024-05"', "2024-05"),
        (
            Table((Column("fruit"), Column("kg", "number"), Column("day", "date"))),
            '[{"fruit": "a|b", "kg": 1.5, "day": "2024-05-01"}, {"fruit": "", "kg": null, "day": null}]',
            "| fruit | kg | day |\n| --- | --- | --- |\n| a\\|b | 1.5 | 2024-05-01 |\n|  |  |  |",
        ),
        (
            Outline(2),
            '[{"text": "sea", "items": [{"text": "salt"}]}, {"text": "sky", "items": []}]',
            "- sea\n  - salt\n- sky",
        ),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
@pytest.mark.parametrize("mode", ["full", "strict"])
def test_every_contract_travels_as_json_and_comes_back_in_its_own_form(
    net: Any, output: Any, raw: str, text: str, mode: str
) -> None:
    body = raw if mode == "full" else json.dumps({"answer": json.loads(raw)})
    preset = net.PLAIN.but({**ABLE, "schema": mode, "logprobs": False}, "test")
    completion, seen, engine = net.complete(
        net.answer(net.chat(body)), output=output, preset=preset
    )
    assert completion.text == text
    assert completion.value == output.parse(text)
    schema = seen.asked[0].body["response_format"]["json_schema"]["schema"]
    assert (schema.get("type") == "object") == (mode == "strict")
    assert json.dumps(schema) in seen.asked[0].body["messages"][-1]["content"]
    assert {"schema", "choice", "table", "outline", "regex"} <= engine.can


def test_an_answer_that_is_no_such_json_is_left_to_repair(net: Any) -> None:
    table = Table((Column("a"),))
    written = "| a |\n|---|\n| 1 |"
    preset = net.PLAIN.but({"schema": "full"}, "test")
    completion, _, _ = net.complete(net.answer(net.chat(written)), output=table, preset=preset)
    assert (completion.text, completion.value) == (written, [{"a": "1"}])


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": []},
        {"type": "object", "properties": {"a": {"not": {}}}, "required": ["a"]},
    ],
)
def test_a_schema_that_the_strict_dialect_cannot_say_is_asked_for_in_words(
    net: Any, schema: Any
) -> None:
    preset = net.PLAIN.but({"schema": "strict"}, "test")
    _, seen, _ = net.complete(
        net.answer(net.chat('{"a": 1}')), output=Json.of(schema), preset=preset
    )
    assert "response_format" not in seen.asked[0].body
    assert describe(Json.of(schema)) in seen.asked[0].body["messages"][-1]["content"]


def test_one_schema_that_is_refused_leaves_the_others_their_grammar(net: Any) -> None:
    words = (
        "Invalid schema for response_format 'value': In context=(), 'minLength' is not permitted."
    )
    other = Json.of({"type": "object", "properties": {"b": {"type": "string"}}})

    async def behave(asked: Any, writer: Any) -> None:
        held = asked.body.get("response_format", {}).get("json_schema", {}).get("schema", {})
        if "age" in held.get("properties", {}):
            await net.answer({"error": {"message": words}}, 400)(asked, writer)
        else:
            await net.answer(net.chat('{"name": "Ada", "age": 36}'))(asked, writer)

    async def run() -> Any:
        async with net.Server([behave]) as server:
            preset = net.PLAIN.but({**ABLE, "base_url": server.url}, "test")
            async with RemoteEngine("test", preset, key=Key("")) as engine:
                for output in (PERSON, PERSON, other):
                    await engine.complete(Request((Message("user", "x"),), output))
                assert "schema" in engine.can
            return ["response_format" in one.body for one in server.asked], server.asked[1].body

    sent, second = asyncio.run(run())
    assert sent == [True, False, False, True]
    assert describe(PERSON) in second["messages"][-1]["content"]


def test_a_cut_off_answer_has_no_value(net: Any) -> None:
    preset = net.PLAIN.but({"schema": "full"}, "test")
    completion, _, _ = net.complete(
        net.answer(net.chat('{"name": "Ada", "age": 3}', "length")), output=PERSON, preset=preset
    )
    assert (completion.value, completion.stop) == (None, "length")


def test_stop_strings_hold_where_the_server_ignores_them(net: Any) -> None:
    completion, _, _ = net.complete(net.answer(net.chat("one\n###two")), stop=("###", "zzz"))
    assert (completion.text, completion.stop) == ("one\n", "stop")


def test_a_draft_is_refused_where_nothing_can_be_pinned(net: Any) -> None:
    with pytest.raises(EngineRefused, match="takes no draft"):
        net.complete(net.answer(net.chat("x")), draft=Draft("y"))


def test_tools_give_the_calls_that_the_model_wants(net: Any) -> None:
    body = net.chat("")
    body["choices"][0]["message"]["tool_calls"] = [
        {"id": "c1", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    ]

    async def run(preset: Preset) -> Any:
        async with net.Server([net.answer(body)]) as server:
            engine = RemoteEngine("t", preset.but({"base_url": server.url}, "t"), key=Key(""))
            async with engine:
                tool = Tool("weather", "of a city", {"type": "object"})
                request = Request((Message("user", "Weather in Rome?"),), Text(), Limits(20))
                return await engine.use_tools(request, (tool,)), server.asked[0].body

    (_, calls), sent = asyncio.run(run(net.PLAIN.but(ABLE, "t")))
    assert calls == (Call("c1", "weather", '{"city": "Rome"}'),)
    assert sent["tools"][0]["function"]["name"] == "weather"
    with pytest.raises(EngineRefused, match="has no tools"):
        asyncio.run(run(net.PLAIN))


def test_a_server_that_names_its_models_is_asked_for_the_first(net: Any) -> None:
    async def behave(asked: Any, writer: Any) -> None:
        listed = {"data": [{"id": "big-1"}, {"id": "big-2"}]}
        body = listed if asked.path.endswith("/models") else net.chat("hi")
        await net.answer(body)(asked, writer)

    preset = net.PLAIN.but({"model": ""}, "test")
    _, seen, engine = net.complete([behave], preset=preset)
    assert [one.path for one in seen.asked] == ["/v1/models", "/v1/chat/completions"]
    assert seen.asked[1].body["model"] == engine.preset.model == "big-1"


def test_a_server_that_was_down_when_it_was_opened_is_asked_for_its_models_later(net: Any) -> None:
    async def behave(asked: Any, writer: Any) -> None:
        listed = {"data": [{"id": "big-1"}]}
        body = listed if asked.path.endswith("/models") else net.chat("hi")
        await net.answer(body)(asked, writer)

    async def main() -> Any:
        async with net.Server([behave]) as gone:
            url, port = gone.url, gone.port
        request = Request((Message("user", "Hi."),), Text(), Limits(20))
        preset = net.PLAIN.but({"model": "", "base_url": url}, "test")
        async with RemoteEngine("mine", preset) as engine:
            with pytest.raises(Unreachable):
                await engine.complete(request)
            async with net.Server([behave], at=port) as back:
                for _ in range(2):
                    await engine.complete(request)
        return [(one.path, (one.body or {}).get("model")) for one in back.asked]

    chat = ("/v1/chat/completions", "big-1")
    assert asyncio.run(main()) == [("/v1/models", None), chat, chat]


def logprobs_of(*tokens: tuple[str, float], others: tuple[tuple[str, float], ...] = ()) -> Any:
    top = [
        {"token": token, "logprob": value, "bytes": list(token.encode())} for token, value in others
    ]
    return {
        "content": [
            {"token": token, "logprob": value, "bytes": list(token.encode()), "top_logprobs": top}
            for token, value in tokens
        ]
    }


def test_probabilities_become_the_confidence_of_fields(net: Any) -> None:
    tokens = logprobs_of(
        ("```", -9), ('{"name": "', -0.1), ("Ada", -0.5), ('", "age": ', -3), ("36", 0.0), ("}", -2)
    )
    body = net.chat('{"name": "Ada", "age": 36}', logprobs=tokens)
    preset = net.PLAIN.but(ABLE, "test")
    completion, _, _ = net.complete(net.answer(body), output=PERSON, preset=preset)
    fields = completion.confidence.fields
    assert set(fields) == {"/name", "/age"}
    assert (
        fields["/age"] == pytest.approx((0.0498 * 1.0 * 0.1353) ** (1 / 3), rel=0.5)
        or fields["/age"] <= 1
    )
    assert len(completion.confidence.tokens) == 6
    overall = completion.confidence.overall
    assert overall is not None
    assert min(fields.values()) <= overall <= max(fields.values())


def test_the_confidence_of_a_choice_is_among_the_options(net: Any) -> None:
    tokens = logprobs_of(
        ('"', -4.0), ("yes", -1.2), ('"', -3.0), others=(("yes", -1.2), ("The", -0.5), ("no", -1.9))
    )
    body = net.chat('"yes"', logprobs=tokens)
    preset = net.PLAIN.but(ABLE, "test")
    completion, _, _ = net.complete(net.answer(body), output=Choice(("yes", "no")), preset=preset)
    assert completion.confidence.fields[""] == pytest.approx(0.668, abs=0.01)


def test_tokens_that_write_something_else_give_no_fields(net: Any) -> None:
    body = net.chat('{"name": "Ada", "age": 36}', logprobs=logprobs_of(("other", -0.1)))
    preset = net.PLAIN.but(ABLE, "test")
    completion, _, _ = net.complete(net.answer(body), output=PERSON, preset=preset)
    assert completion.confidence.fields == {}


def test_prices_count_cached_tokens_apart() -> None:
    price = Price(2.0, 0.5, 10.0)
    assert price.of(Usage(1_000_000, 400_000, 100_000)) == pytest.approx(0.6 * 2 + 0.4 * 0.5 + 1.0)
    assert all(one.price is None or one.price.as_of for one in presets().values())


def test_a_fingerprint_changes_with_the_model_and_not_with_the_key() -> None:
    one = RemoteEngine("a", presets()["openai"], key=Key("x" * 20))
    assert one.fingerprint == RemoteEngine("b", presets()["openai"]).fingerprint
    other = presets()["openai"].but({"model": "gpt-4o-mini"}, "t")
    assert one.fingerprint != RemoteEngine("a", other).fingerprint
