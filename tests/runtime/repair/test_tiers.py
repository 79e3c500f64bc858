"""Tiers 2 and 3 with scripted engines: one call for all holes, one for what is still broken, none without need."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from carrara.engines.contract import Json
from carrara.engines.errors import EngineFailed
from carrara.engines.request import Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.repair import RepairPolicy, RepairReport, arepair

TABLE = "| port | ships |\n|---|---|\n| Lome | [MASK] |\n| Tema |\n| Cotonou | 31 |\n"


def fill(request: Request) -> str:
    """A word or a number for every blank."""
    assert isinstance(request.output, Json)
    kinds = request.output.schema["properties"]
    words: dict[str, Any] = {"number": 7, "integer": 7, "boolean": True, "array": ["word"]}
    return json.dumps({key: words.get(slot.get("type"), "word") for key, slot in kinds.items()})


def mended(text: str, kind: Any = "auto", **more: Any) -> RepairReport:
    return asyncio.run(arepair(text, kind, **more))


def test_all_holes_of_a_document_are_filled_by_one_call() -> None:
    engine = ScriptedEngine("diffusion", fill, can=["schema"])
    text = f"# Ports\n\n{TABLE}\n- one\n- <|mask|>\n- two <|mask|> three\n"
    report = mended(text, "mixed", engine=engine)
    assert report.text == (
        "# Ports\n\n| port | ships |\n|---|---|\n| Lome | word |\n| Tema | word |\n| Cotonou | 31 |\n"
        "\n- one\n- word\n- two word three\n"
    )
    assert (report.ok, report.model_calls, len(engine.requests)) == (True, 1, 1)
    assert [hole.filled_by for hole in report.holes] == ["diffusion"] * 4
    assert report.tokens > 0
    assert report.tier == 2
    assert report.revert() == text


def test_the_model_sees_numbered_blanks_and_writes_slots_only() -> None:
    engine = ScriptedEngine("diffusion", fill, can=["schema"])
    mended(TABLE, "table", engine=engine)
    request = engine.requests[0]
    assert "| Lome |____(1)|\n| Tema |____(2)|" in request.messages[0].content
    assert isinstance(request.output, Json)
    assert list(request.output.schema["properties"]) == ["1", "2"]
    assert "|" in request.output.schema["properties"]["1"]["pattern"]
    assert request.limits.max_tokens < 100


def test_json_holes_have_the_types_of_their_siblings() -> None:
    engine = ScriptedEngine("diffusion", fill, can=["schema"])
    report = mended('[{"n": 1, "ok": true}, {"n": , "ok": [MASK]}]', "json", engine=engine)
    assert report.value == [{"n": 1, "ok": True}, {"n": 7, "ok": True}]
    assert (report.ok, report.model_calls) == (True, 1)


def test_quotes_around_masks_go_where_siblings_or_the_schema_speak_for_another_type() -> None:
    engine = ScriptedEngine("diffusion", fill, can=["schema"])
    text = '[{"n": "[MASK]", "who": "[MASK]"}, {"n": 3, "who": "Ann"}]'
    report = mended(text, "json", engine=engine)
    assert report.value == [{"n": 7, "who": "word"}, {"n": 3, "who": "Ann"}]
    schema = {"properties": {"n": {"type": "boolean"}}}
    report = mended('{"n": "[MASK]"}', "json", schema=schema, engine=engine)
    assert (report.value, report.ok) == ({"n": True}, True)
    assert mended('{"n": "[MASK]"}', "json", engine=engine).value == {"n": "word"}


@pytest.mark.parametrize("kind", ["table", "json"])
def test_a_text_slot_holds_a_letter_or_a_digit(kind: str) -> None:
    engine = ScriptedEngine("diffusion", fill, can=["schema"])
    mended(TABLE if kind == "table" else '[{"a": "x"}, {"a": [MASK]}]', kind, engine=engine)
    assert isinstance(engine.requests[0].output, Json)
    pattern = engine.requests[0].output.schema["properties"]["1"]["pattern"]
    assert not re.search(pattern, "__[")
    assert not re.search(pattern, "- ,")
    assert all(re.search(pattern, word) for word in ("a", "(7)", "Größe", "Нил", "泵"))
    assert bool(re.search(pattern, "a | b")) == (kind == "json")


@pytest.mark.parametrize("value", ["Rome", 7, 2.5, False])
def test_the_engine_chooses_the_type_of_a_value_that_nothing_speaks_for(value: Any) -> None:
    engine = ScriptedEngine("d", [json.dumps({"1": value})], can=["schema"])
    report = mended('{"port": "Lome", "open": [MASK]}', "json", engine=engine)
    assert report.value == {"port": "Lome", "open": value}
    assert (report.ok, report.holes[0].type, report.holes[0].filled_by) == (True, "any", "d")
    output = engine.requests[0].output
    assert isinstance(output, Json)
    kinds = [branch["type"] for branch in output.schema["properties"]["1"]["anyOf"]]
    assert kinds == ["string", "number", "boolean"]


@pytest.mark.parametrize("value", [None, "", [1], {"a": 1}])
def test_a_value_that_is_no_scalar_is_not_taken_for_a_lost_one(value: Any) -> None:
    engine = ScriptedEngine("d", [json.dumps({"1": value})], can=["schema"])
    report = mended('{"open": [MASK]}', "json", engine=engine)
    assert (report.value, report.ok, report.model_calls) == ({"open": None}, False, 1)


def test_a_lost_list_has_elements_like_those_of_its_siblings() -> None:
    engine = ScriptedEngine("d", ['{"1": ["c", "d"]}'], can=["schema"])
    report = mended('[{"tags": ["a", "b"]}, {"tags": [MASK]}]', "json", engine=engine)
    assert report.value == [{"tags": ["a", "b"]}, {"tags": ["c", "d"]}]
    wrong = ScriptedEngine("d", ['{"1": ["c", 4]}'], can=["schema"])
    report = mended('[{"tags": ["a", "b"]}, {"tags": [MASK]}]', "json", engine=wrong)
    assert (report.value, report.ok) == ([{"tags": ["a", "b"]}, {"tags": None}], False)


def test_a_lost_object_is_asked_of_no_engine() -> None:
    engine = ScriptedEngine("d", fill, can=["schema"])
    report = mended('[{"at": {"x": 1}}, {"at": [MASK]}]', "json", engine=engine)
    assert (report.ok, report.model_calls, engine.requests) == (False, 0, [])


def test_the_values_that_a_schema_lists_are_the_slot() -> None:
    schema = {"properties": {"state": {"enum": ["open", "shut"]}}}
    engine = ScriptedEngine("d", ['{"1": "shut"}', '{"1": "ajar"}'], can=["schema"])
    report = mended('{"state": [MASK]}', "json", schema=schema, engine=engine)
    assert (report.value, report.ok) == ({"state": "shut"}, True)
    assert isinstance(engine.requests[0].output, Json)
    assert engine.requests[0].output.schema["properties"]["1"] == {"enum": ["open", "shut"]}
    report = mended('{"state": [MASK]}', "json", schema=schema, engine=engine)
    assert (report.value, report.ok) == ({"state": None}, False)


def test_a_slot_that_breaks_the_structure_is_not_taken() -> None:
    engine = ScriptedEngine("d", ['{"1": "a | b", "2": "fine"}'], can=["schema"])
    report = mended(TABLE, "table", engine=engine)
    assert "| Tema | fine |" in report.text
    assert "| Lome |  |" in report.text
    assert [hole.filled_by for hole in report.holes] == ["", "d"]
    assert not report.ok


def test_slots_that_did_not_pass_are_asked_for_once_more_with_the_others_pinned() -> None:
    replies = ['{"1": "a | b", "2": "fine"}', '{"1": "better", "2": "fine"}']
    engine = ScriptedEngine("d", replies, can=["schema", "drafts"])
    report = mended(TABLE, "table", engine=engine)
    assert "| Lome | better |" in report.text
    draft = engine.requests[1].draft
    assert draft is not None
    assert (draft.fields, report.model_calls, report.ok) == (("/1",), 2, True)


def test_no_engine_is_asked_for_what_its_own_text_mends() -> None:
    engine = ScriptedEngine("d", fill)
    report = mended('{"a": [1, 2}', engine=engine, fallback=engine)
    assert (report.ok, report.model_calls, engine.requests) == (True, 0, [])


def test_no_engine_is_asked_for_a_text_that_a_limit_cut() -> None:
    engine = ScriptedEngine("d", fill)
    report = mended(TABLE + "| Da", "table", engine=engine, fallback=engine, cut_off=True)
    assert (report.model_calls, engine.requests) == (0, [])


def test_the_policy_bounds_the_tiers() -> None:
    engine = ScriptedEngine("d", fill)
    report = mended(TABLE, "table", policy=RepairPolicy(max_tier=1), engine=engine, fallback=engine)
    assert (engine.requests, len(report.holes)) == ([], 2)


SCHEMA = Json.of(
    {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}, "thing"
)


def test_an_engine_that_fails_leaves_what_tier_one_made() -> None:
    engine = ScriptedEngine("d", [EngineFailed("out of memory", engine="d")])
    report = mended(TABLE, "table", engine=engine)
    assert report.text == TABLE.replace(" [MASK] ", "  ").replace("| Tema |", "| Tema |  |")
    assert "the holes were not filled: out of memory" in report.reason


@pytest.mark.parametrize("text", ['{"a": }', '{"a": [MASK]}'])
def test_a_contract_takes_a_filled_value_only_if_it_holds(text: str) -> None:
    good = ScriptedEngine("d", ['{"1": 4}'], can=["schema"])
    assert mended(text, SCHEMA, engine=good).value == {"a": 4}
    bad = ScriptedEngine("d", ['{"1": 4.5}'], can=["schema"])
    report = mended(text, SCHEMA, engine=bad)
    assert (report.text, report.ok) == (text, False)
