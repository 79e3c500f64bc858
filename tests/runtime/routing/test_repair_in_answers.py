"""What the runtime makes of crooked answers: mended, told with each edit, switched by the step's `repair`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from carrara.engines.contract import Column, Json, Table
from carrara.engines.request import Completion, Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.events import Accepted, Repaired, from_data, to_data
from carrara.runtime.report import report
from carrara.runtime.routing.answer import AnswerError

Ask = Callable[..., Any]
Context = Callable[..., Any]
SHOP = Table((Column("Item"), Column("Amount", "integer")))
PERSON = Json.of(
    {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
    }
)
MERGED = "| Item | Amount |\n|---|---|\n| flour | 2 || salt | 1 |\n"


def test_a_broken_table_answers_its_contract_after_repair(context: Context, ask: Ask) -> None:
    ctx = context(ScriptedEngine("ar", [MERGED]))
    assert ask(ctx, output=SHOP) == [
        {"Item": "flour", "Amount": 2},
        {"Item": "salt", "Amount": 1},
    ]
    told = ctx.told(Repaired)[0]
    assert [edit["rule"] for edit in told.made] == ["rows_merged"]
    assert told.made[0]["reason"] == "the newline between these rows is lost"


def test_a_repair_travels_with_its_edits_and_is_counted_by_rule(context: Context, ask: Ask) -> None:
    ctx = context(ScriptedEngine("ar", [MERGED]))
    ask(ctx, output=SHOP)
    event = ctx.told(Repaired)[0]
    assert from_data(json.loads(json.dumps(to_data(event)))) == event
    step = report([event]).steps["flow/step"]
    assert (step.edits, dict(step.rules), dict(step.repairs)) == (
        1,
        {"rows_merged": 1},
        {"table": 1},
    )


def test_what_was_accepted_names_the_repairs_of_each_field(context: Context, ask: Ask) -> None:
    ctx = context(ScriptedEngine("ar", ['Here: {"name": \'Ann\', "age": 3}']))
    assert ask(ctx, output=PERSON) == {"name": "Ann", "age": 3}
    (event,) = ctx.told(Accepted)
    assert event.repairs.keys() == {"", "/name"}
    assert from_data(json.loads(json.dumps(to_data(event)))) == event
    assert all(rules for rules in event.repairs.values())


@pytest.mark.parametrize("mode", ["off", "structural"])
def test_free_text_with_a_table_is_mended_unless_the_step_says_no(
    context: Context, ask: Ask, mode: str
) -> None:
    page = f"Here it is.\n\n{MERGED}"
    ctx = context(ScriptedEngine("ar", [page]))
    value = ask(ctx, repair=mode)
    if mode == "off":
        assert (value, ctx.told(Repaired)) == (page.strip(), [])
    else:
        assert value.endswith("| flour | 2 |\n| salt | 1 |")
        assert ctx.told(Repaired)[0].kind == "text"


def test_free_text_is_mended_only_where_no_other_reading_is_left(
    context: Context, ask: Ask
) -> None:
    page = "| a | b |\n|---|---|\n| 1 | 2 |\nText below."
    assert ask(context(ScriptedEngine("ar", [page]))) == page


def test_free_text_that_a_limit_cut_is_left_as_it_is(context: Context, ask: Ask) -> None:
    cut = Completion("```sh\nls", stop="length")
    assert ask(context(ScriptedEngine("ar", [cut]))) == "```sh\nls"


def test_a_lost_value_alone_is_written_anew_on_the_mended_draft(context: Context, ask: Ask) -> None:
    engine = ScriptedEngine(
        "diffusion",
        ["{'name': [MASK], 'age': 3}", '{"name": "Ann", "age": 3}'],
        can=["schema", "drafts"],
    )
    assert ask(context(engine), output=PERSON) == {"name": "Ann", "age": 3}
    first, second = engine.requests
    assert first.draft is None
    assert second.draft is not None
    assert (second.draft.text, second.draft.fields) == ('{"name": null, "age": 3}', ("/name",))


def test_with_structural_repair_a_lost_value_is_not_asked_for(context: Context, ask: Ask) -> None:
    engine = ScriptedEngine("diffusion", ["{'name': , 'age': 3}"] * 3, can=["schema", "drafts"])
    with pytest.raises(AnswerError, match="/name: a value is missing"):
        ask(context(engine), output=PERSON, repair="structural")
    assert all(request.draft is None for request in engine.requests)


def test_a_lost_cell_has_the_path_of_its_contract(context: Context, ask: Ask) -> None:
    def reply(request: Request) -> str:
        whole = "| Item | Amount |\n|---|---|\n| flour | 2 |\n| salt | 1 |"
        return whole if request.draft else whole.replace("1", "<|mdm_mask|>")

    engine = ScriptedEngine("diffusion", reply, can=["table", "drafts"])
    assert ask(context(engine), output=SHOP)[1] == {"Item": "salt", "Amount": 1}
    assert engine.requests[1].draft is not None
    assert engine.requests[1].draft.fields == ("/1/Amount",)
