"""A diffusion model that vLLM serves answers choices by one read and typed JSON on a pinned canvas.

The stand-in server checks requests as vLLM 0.33 does (`vllm/utils/diffusion.py`) and denoises by a script.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from carrara.engines.contract import Choice, Column, Json, Table, Text
from carrara.engines.errors import BadReply
from carrara.engines.remote.canvas_layout import Literal, Slot, Unpinnable, assembled, layout
from carrara.engines.remote.keys import Key
from carrara.engines.remote.preset import Preset, presets
from carrara.engines.remote.probe import probe
from carrara.engines.request import Draft, Limits

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "kind": {"enum": ["cat", "dog"]},
        "tame": {"type": "boolean"},
        "home": {
            "type": "object",
            "properties": {"town": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
            "required": ["town"],
        },
    },
    "required": ["name", "age", "kind", "tame", "home"],
}
PET = Json.of(SCHEMA)
TOM = {"name": "Tom", "age": 4, "kind": "cat", "tame": True, "home": {"town": None}}
DIFFUSION = presets()["vllm-diffusion"].but({"model": "dg"}, "test")
CANVAS = 256


def probed(server: Any, net: Any) -> Any:
    async def run() -> Any:
        async with net.Server([server]) as up:
            return await probe(Preset("dg", "dg", up.url, model="dg", key_required=False), Key(""))

    return asyncio.run(run())


def test_probing_finds_the_controls_of_a_served_diffusion_model(net: Any) -> None:
    found = probed(StandIn(net, ["4071"] * 9), net)
    assert (found.preset.decisions, found.preset.pins, found.unknown) == (True, True, {})
    assert (found.preset.temperature, found.preset.seed) == (False, False)


def test_a_server_that_ignores_pins_or_refuses_them_has_none(net: Any) -> None:
    class Free(StandIn):
        """Writes what it likes, as an autoregressive model does with controls that it does not know."""

        def chat(self, body: Any) -> tuple[int, Any]:
            reply = self.net.chat("Hello!")
            reply["choices"][0]["token_ids"] = [ord("x")] * body["max_tokens"]
            return 200, reply

    assert not probed(Free(net, []), net).preset.pins
    assert not probed(StandIn(net, ["4071"] * 9, refuses=("vllm_xargs",)), net).preset.pins
    assert not probed(StandIn(net, ["4071"] * 9, refuses=("tokenize",)), net).preset.pins


class StandIn:
    """Tokens are characters. `fill` is what the model writes into the first free positions of each gap."""

    def __init__(self, net: Any, fill: list[str], refuses: tuple[str, ...] = ()) -> None:
        self.net, self.fill, self.refuses = net, fill, refuses
        self.controls: list[dict[str, Any]] = []

    async def __call__(self, asked: Any, writer: Any) -> None:
        status, body = self.answer(asked)
        await self.net.answer(body, status)(asked, writer)

    def answer(self, asked: Any) -> tuple[int, Any]:
        body = asked.body or {}
        if any(part in asked.path or part in body for part in self.refuses):
            return 400, {
                "error": {"message": f"{self.refuses[0]} unknown: extra_args", "type": "x"}
            }
        match asked.path:
            case "/v1/models":
                return 200, {"data": [{"id": "dg", "max_model_len": 8192}]}
            case "/tokenize":
                return 200, {"tokens": [ord(c) for c in body["prompt"]], "count": 1}
            case "/detokenize":
                return 200, {"prompt": "".join(map(chr, body["tokens"]))}
            case "/v1/decisions":
                return 200, self.decision(body)
            case _:
                return self.chat(body)

    def decision(self, body: Any) -> Any:
        values = [choice["value"] for choice in body["questions"][0]["choices"]]
        odds = [0.9] + [0.1 / (len(values) - 1)] * (len(values) - 1)
        listed = [{"value": v, "probability": p} for v, p in zip(values, odds, strict=True)]
        return {
            "model": "dg",
            "answers": [
                {
                    "type": "choice",
                    "name": None,
                    "choice": values[0],
                    "probabilities": listed,
                    "confidence": 0.8,
                }
            ],
            "usage": {
                "input_tokens": 30,
                "input_tokens_details": {"cached_tokens": 16},
                "output_tokens": 1,
            },
        }

    def chat(self, body: Any) -> tuple[int, Any]:
        for name in ("temperature", "seed", "response_format", "structured_outputs", "logprobs"):
            if name in body:
                return 400, {
                    "error": {"message": f"{name} is not yet supported with diffusion models"}
                }
        extra = body.get("vllm_xargs")
        if extra is None:
            return 200, self.net.chat(json.dumps(TOM))
        self.controls.append(extra)
        seed, pinned, width = (
            extra["diffusion_seed_canvas"],
            extra["diffusion_pinned"],
            extra["diffusion_canvas_length"],
        )
        assert width <= CANVAS
        assert len(seed) == width
        assert all(0 <= one < 0x110000 for one in seed)
        assert all(0 <= one < width for one in pinned)
        assert body["ignore_eos"]
        assert body["max_tokens"] == width
        canvas, script, at = list(seed), list(self.fill), 0
        while at < width:
            if at in pinned:
                at += 1
                continue
            end = next((one for one in range(at, width) if one in pinned), width)
            canvas[at:end] = [ord(c) for c in script.pop(0).ljust(end - at, "~")[: end - at]]
            at = end
        reply = self.net.chat("".join(map(chr, canvas)))
        reply["choices"][0]["token_ids"] = canvas
        return 200, reply


def asked(net: Any, stand_in: StandIn, output: Any, **more: Any) -> Any:
    more = {"limits": Limits(max_tokens=200), **more}
    completion, server, engine = net.complete(
        [stand_in], "Tom?", output=output, preset=DIFFUSION, **more
    )
    return completion, [one.path for one in server.asked], engine


def test_a_choice_is_read_from_one_denoising_step(net: Any) -> None:
    found, paths, engine = asked(net, StandIn(net, []), Choice(("cat", "dog")))
    assert (found.value, found.confidence.fields, found.usage.passes) == ("cat", {"": 0.9}, 1)
    assert found.usage.cached_tokens == 16
    assert paths == ["/v1/decisions"]
    assert {"choice", "schema", "drafts", "infill"} <= engine.can


def test_a_typed_answer_is_denoised_between_pinned_literals(net: Any) -> None:
    stand_in = StandIn(net, ['Tom"', "4,", 'cat"', "true", "null"])
    found, paths, _ = asked(net, stand_in, PET, limits=Limits(200, max_steps=5))
    assert found.value == TOM
    assert json.loads(found.text) == TOM
    assert stand_in.controls[0]["diffusion_max_steps"] == 5
    assert paths.count("/v1/chat/completions") == 1
    seed, pinned = (
        stand_in.controls[0]["diffusion_seed_canvas"],
        stand_in.controls[0]["diffusion_pinned"],
    )
    assert "".join(chr(seed[at]) for at in pinned).startswith('{"name": "", "age": , "kind": "')


def test_a_draft_keeps_all_but_the_named_fields(net: Any) -> None:
    stand_in = StandIn(net, ["7 "])
    draft = Draft(json.dumps(TOM), ("/age",))
    found, _, _ = asked(net, stand_in, PET, draft=draft)
    assert found.value == TOM | {"age": 7}
    assert len(stand_in.controls[0]["diffusion_pinned"]) > len('{"name": "Tom", "kind": "cat"')


@pytest.mark.parametrize(
    "fill", [['Tom"', "four", 'cat"', "true", "null"], ['Tom"', "4", "cow", "true", "null"]]
)
def test_a_slot_that_holds_no_value_is_asked_for_in_words(net: Any, fill: list[str]) -> None:
    found, paths, engine = asked(net, StandIn(net, fill), PET)
    assert found.value == TOM
    assert paths.count("/v1/chat/completions") == 2
    assert "infill" in engine.can


def test_a_server_without_pins_or_decisions_falls_back_to_words(net: Any) -> None:
    found, _, engine = asked(net, StandIn(net, [], ("vllm_xargs",)), PET)
    assert found.value == TOM
    assert not {"schema", "infill", "drafts"} & engine.can
    found, paths, engine = asked(
        net, StandIn(net, [], ("decisions",)), Choice((json.dumps(TOM), "dog"))
    )
    assert paths == ["/v1/decisions", "/v1/chat/completions"]
    assert found.value == json.dumps(TOM)
    assert "choice" not in engine.can


def test_what_has_no_place_on_a_canvas_is_asked_for_in_words(net: Any) -> None:
    for output in (
        Table((Column("a"),)),
        Text(),
        Json.of({"type": "array", "items": {"type": "string"}}),
    ):
        stand_in = StandIn(net, [])
        asked(net, stand_in, output)
        assert not stand_in.controls


def test_an_answer_of_another_form_is_an_error(net: Any) -> None:
    class Odd(StandIn):
        def decision(self, body: Any) -> Any:
            return {"answers": [{"choice": "horse"}]}

    with pytest.raises(BadReply, match="none of the options"):
        asked(net, Odd(net, []), Choice(("cat", "dog")))


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string"}, 'a \\"b\\" c", junk', 'a "b" c'),
        ({"type": "string"}, "no end<eos>junk", "no end"),
        ({"type": "string"}, "broken \\x escape\n", "broken \\x escape"),
        ({"type": "number"}, " -1.5e3 x", -1500.0),
        ({"type": "integer"}, "12}", 12),
        ({"type": "boolean"}, "True.", True),
        ({"enum": ["low", "lower"]}, "lower tail", "lower"),
        ({"enum": ["medium", "high"]}, "mediun", "medium"),
        ({"const": 3}, "3", 3),
    ],
)
def test_slots_are_read_whatever_follows_the_value(schema: Any, text: str, value: Any) -> None:
    slot = Slot(("x",), schema, False, schema.get("type") == "string" or "enum" in schema)
    assert slot.read(text) == value


def test_a_slot_without_a_value_says_so() -> None:
    for schema, text in (
        ({"type": "integer"}, "1.5"),
        ({"type": "boolean"}, "maybe"),
        ({"enum": ["a"]}, "zz"),
    ):
        with pytest.raises(Unpinnable):
            Slot(("x",), schema, False, False).read(text)


def test_what_is_assembled_is_the_json_of_the_values() -> None:
    parts = layout(SCHEMA)
    assert isinstance(parts[0], Literal)
    values = {
        ("name",): 'T"m',
        ("age",): 4,
        ("kind",): "cat",
        ("tame",): False,
        ("home", "town"): "Rome",
    }
    assert json.loads(assembled(values, parts)) == {
        "name": 'T"m',
        "age": 4,
        "kind": "cat",
        "tame": False,
        "home": {"town": "Rome"},
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array"},
        {"type": "object"},
        {"type": "object", "properties": {"a": {"type": "array"}}},
        {
            "type": "object",
            "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
        },
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/a"}},
            "$defs": {"a": {"$ref": "#/$defs/a"}},
        },
        {"type": "object", "properties": {"a": {"$ref": "http://elsewhere"}}},
    ],
)
def test_schemas_without_a_fixed_form_are_not_laid_out(schema: Any) -> None:
    with pytest.raises(Unpinnable):
        layout(schema)
