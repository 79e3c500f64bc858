"""Tier 3 with scripted engines: only the part that is still broken is sent, once, with its faults numbered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from carrara.engines.contract import Column, Json, Outline, Table, Text
from carrara.engines.errors import EngineFailed
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.repair import RepairPolicy, RepairReport, arepair

ITEM = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "s": {"type": "string"}},
    "required": ["n", "s"],
}
RECORD = Json.of(
    {
        "type": "object",
        "properties": {"items": {"type": "array", "items": {"$ref": "#/$defs/item"}}},
        "$defs": {"item": ITEM},
    }
)
PORTS = Table((Column("port"), Column("ships", "integer")))
PORT_ROWS = "| port | ships |\n|---|---|\n| Lome | 12 |\n| Tema | 7. |\n| Accra | 3 |"


def mended(text: str, kind: Any, reply: str, **more: Any) -> tuple[RepairReport, ScriptedEngine]:
    engine = ScriptedEngine("ar", [reply])
    return asyncio.run(arepair(text, kind, fallback=engine, **more)), engine


def shown(engine: ScriptedEngine) -> str:
    """The broken part that the engine was shown."""
    asked = engine.requests[0].messages[0].content
    return asked.split("it is broken:\n")[1].split("\n\nIts faults:")[0]


def test_of_json_only_the_value_that_breaks_the_schema_is_sent_with_its_own_schema() -> None:
    text = '{"items": [{"n": 1, "s": "x y"}, {"n": "2", "s": "z"},]}'
    report, engine = mended(text, RECORD, "2")
    assert report.value == {"items": [{"n": 1, "s": "x y"}, {"n": 2, "s": "z"}]}
    assert (report.ok, report.tier, report.model_calls) == (True, 3, 1)
    assert shown(engine) == '"2"'
    output = engine.requests[0].output
    assert isinstance(output, Json)
    assert output.schema["type"] == "integer"
    assert "1. /items/1/n: '2' is not of type 'integer'" in engine.requests[0].messages[0].content
    assert report.revert() == text


def test_several_faults_are_numbered_and_the_value_around_all_of_them_is_sent() -> None:
    text = '{"items": [{"n": 1, "s": "x"}, {"n": "2", "s": 3}]}'
    report, engine = mended(text, RECORD, '{"n": 2, "s": "3"}')
    assert report.value == {"items": [{"n": 1, "s": "x"}, {"n": 2, "s": "3"}]}
    assert shown(engine) == '{"n": "2", "s": 3}'
    asked = engine.requests[0].messages[0].content
    assert "1. /items/1/n: " in asked
    assert "2. /items/1/s: 3 is not of type 'string'" in asked
    output = engine.requests[0].output
    assert isinstance(output, Json)
    assert output.schema["required"] == ["n", "s"]


def test_of_json_that_cannot_be_read_the_brackets_around_the_fault_are_sent() -> None:
    text = '{"a": {"keep": 1}, "b": {"x" = = > , = "y"}, "c": 2}'
    report, engine = mended(text, "json", '{"x": "y"}')
    assert report.value == {"a": {"keep": 1}, "b": {"x": "y"}, "c": 2}
    assert shown(engine) == '{"x" = = > , = "y"}'
    assert report.edits[0].rule == "rewritten"


@pytest.mark.parametrize(
    ("reply", "why"),
    [("3", "it would lose '2'"), ('"2"', "is not of type 'integer'"), ("two", "not JSON")],
)
def test_an_answer_that_loses_words_or_breaks_the_schema_is_refused(reply: str, why: str) -> None:
    text = '{"items": [{"n": "2", "s": "z"}]}'
    report, _ = mended(text, RECORD, reply)
    assert (report.text, report.ok, report.edits, report.model_calls) == (text, False, (), 1)
    assert "ar wrote the value at /items/0/n of a JSON text again, and " in report.reason
    assert why in report.reason


def test_of_a_table_only_the_rows_at_fault_are_sent() -> None:
    reply = "| port | ships |\n| --- | --- |\n| Tema | 7 |"
    report, engine = mended(f"Here:\n\n{PORT_ROWS}\n", PORTS, reply)
    assert report.value == [
        {"port": "Lome", "ships": 12}, {"port": "Tema", "ships": 7}, {"port": "Accra", "ships": 3}
    ]  # fmt: skip
    assert shown(engine) == "| Tema | 7. |"
    assert engine.requests[0].output == Table(PORTS.columns, 1, 1)
    assert "columns | port | ships |" in engine.requests[0].messages[0].content
    assert report.text == PORT_ROWS.replace("7.", "7")
    wrong = "| port | ships |\n| --- | --- |\n| Tema | 70 |"
    report, _ = mended(PORT_ROWS, PORTS, wrong)
    assert (report.ok, report.text) == (False, PORT_ROWS)
    assert "it would lose '7'" in report.reason


def test_of_a_table_with_other_columns_all_of_it_is_sent_and_nothing_around_it() -> None:
    broken = "| ships | port |\n|---|---|\n| 12 | Lome |"
    reply = "| port | ships |\n| --- | --- |\n| Lome | 12 |"
    report, engine = mended(f"The table:\n\n{broken}\n\nThat is all.", PORTS, reply)
    assert report.value == [{"port": "Lome", "ships": 12}]
    assert shown(engine) == broken
    assert report.revert() == f"The table:\n\n{broken}\n\nThat is all."


def test_of_a_list_the_item_at_fault_is_sent_with_what_belongs_to_it() -> None:
    text = "- a\n  - b\n    - c\n- d"
    report, engine = mended(text, Outline(2), "- a\n  - b\n  - c")
    assert report.text == "- a\n  - b\n  - c\n- d"
    assert shown(engine) == "- a\n  - b\n    - c"
    assert engine.requests[0].output == Outline(2, 1, 1)
    assert "nested deeper than 2 levels" in engine.requests[0].messages[0].content


def test_without_a_contract_the_lines_around_a_fault_are_sent_as_text() -> None:
    text = "# Ports\n\n| a | b |\n|---|---|\n| 1 |\n\nMore.\n"
    sure = RepairPolicy(max_tier=3, min_certainty="certain")
    reply = "| a | b |\n|---|---|\n| 1 | |"
    report, engine = mended(text, "mixed", reply, policy=sure)
    assert report.text == text.replace("| 1 |", "| 1 | |")
    assert shown(engine) == "| a | b |\n|---|---|\n| 1 |"
    assert engine.requests[0].output == Text()
    report, _ = mended(text, "mixed", reply.replace("1", "1 or 2"), policy=sure)
    assert (report.ok, report.text) == (False, text)
    assert "it would invent" in report.reason


@pytest.mark.parametrize(
    ("text", "kind"),
    [('{"items": [{"n": "2"', RECORD), (PORT_ROWS[:-9], PORTS), ("- a\n  - b\n    - c", Outline(2))],
)  # fmt: skip
def test_nothing_is_asked_for_a_text_that_a_length_limit_cut(text: str, kind: Any) -> None:
    report, engine = mended(text, kind, "", cut_off=True)
    assert (report.ok, report.model_calls, engine.requests) == (False, 0, [])


def test_an_engine_that_fails_leaves_the_outcome_of_tier_one() -> None:
    engine = ScriptedEngine("ar", [EngineFailed("out of memory", engine="ar")])
    report = asyncio.run(arepair(PORT_ROWS, PORTS, fallback=engine))
    assert (report.ok, report.text, report.model_calls) == (False, PORT_ROWS, 1)
    assert "was asked to write rows of a table" in report.reason
    assert "out of memory" in report.reason
