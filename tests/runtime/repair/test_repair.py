"""Repair leaves sound text alone, tells every change, loses no word, and refuses what is unsure."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.engines.contract import Choice, Column, Contract, Json, Outline, Regex, Table, Text
from carrara.engines.errors import CarraraError
from carrara.engines.markdown import render_outline, render_table
from carrara.runtime.repair import KINDS, RepairReport, check, repair, repair_text
from carrara.runtime.repair.report import replay

RECIPE = Json.of(
    {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "minutes": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["title", "minutes"],
        "additionalProperties": False,
    }
)
SHOP = Table((Column("Item"), Column("Amount", "integer")))
CONTRACTS: list[Contract] = [Text(), Choice(("yes", "no")), RECIPE, SHOP, Outline(), Regex(r"\d+")]
SOUND = '{"title": "Bread", "minutes": 30, "tags": ["oven"]}'
CERTAIN = {
    "extra_close",
    "single_quotes",
    "trailing_comma",
    "unquoted_keys",
    "key_quote_lost",
    "missing_comma",
    "comment",
    "text_around",
}
MESSY = st.text(st.sampled_from('{}[]",:ab1 \n|-*`\'\\.\u2019é{}"'), max_size=40)


def unchanged(report: RepairReport, text: str) -> bool:
    return report.text is text and not report.edits


@given(MESSY | st.text(max_size=40), st.sampled_from([*CONTRACTS, *KINDS]))
@settings(max_examples=300, deadline=None)
def test_every_report_is_true(text: str, kind: str | Contract) -> None:
    report = repair(text, kind)
    assert replay(text, report.edits) == report.text
    assert report.revert() == text
    assert report.ok != bool(report.problems)
    assert report.ok or unchanged(report, text) or isinstance(kind, str)
    again = repair(report.text, kind)
    assert again.text == report.text
    if report.ok:
        assert check(report.text, kind) == ()
    if report.ok and not isinstance(kind, str):
        assert kind.parse(report.text) == report.value


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (SOUND, RECIPE),
        ("  " + SOUND + "\n", RECIPE),
        (f"```json\n{SOUND}\n```", RECIPE),
        ("yes\n", Choice(("yes", "no"))),
        ("| Item | Amount |\n|:-|-:|\n| a | 1 |\n", SHOP),
        ("- a\n    - b\n", Outline()),
        ("12", Regex(r"\d+")),
        ("anything", Text()),
        ("1. a\n2. b\n   ```\n   c\n   ```\n", "list"),
        ("# T\n\n|a|b|\n|-|-|\n|1|2|\n\nmore", "table"),
    ],
)
def test_sound_text_is_the_same_object(text: str, kind: str | Contract) -> None:
    report = repair(text, kind)
    assert report.ok
    assert unchanged(report, text)
    assert check(text, kind) == ()


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        (f"Sure! Here it is:\n\n```json\n{SOUND}\n```\nEnjoy.", ["text_around", "text_around"]),
        (f"Answer: {SOUND}", ["text_around"]),
        (SOUND + "}]", ["extra_close", "extra_close"]),
        (f"As you asked for a recipe, {SOUND}", ["text_around"]),
        (f"```json\n{SOUND}", ["text_around"]),
        (SOUND.replace('"', "'"), ["single_quotes"] * 10),
        (SOUND.replace('["oven"]', '["oven",]'), ["trailing_comma"]),
        (SOUND.replace('"minutes"', "minutes"), ["unquoted_keys"] * 2),
        (SOUND.replace('title"', "title"), ["key_quote_lost"]),
        (SOUND[:-1], ["unclosed_end"]),
        ("Here: " + SOUND[:-2], ["text_around", "unclosed_end"]),
        (SOUND.replace('30, "', '30 "'), ["missing_comma"]),
        (SOUND.replace('"Bread",', '"Bread", // in the oven\n'), ["comment"]),
    ],
)
def test_json_is_mended_and_each_change_is_told(text: str, rules: list[str]) -> None:
    report = repair(text, RECIPE)
    assert report.value == {"title": "Bread", "minutes": 30, "tags": ["oven"]}
    assert [edit.rule for edit in report.edits] == rules
    assert json.loads(report.text) == report.value
    assert report.certainty == min(1.0 if rule in CERTAIN else 0.5 for rule in rules)
    for edit in report.edits:
        assert text[edit.start : edit.end] == edit.before


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"title": "Bread", "minutes": 3', "ends inside a value"),
        ('{"title": "Bread", "minutes": , "tags": ["x"]}', "not repaired"),
        ('{"title": , "minutes": 3}', "a value is missing"),
        ('"minutes": 3, {"title": "Bread", "minutes": 4}', "not JSON"),
        ('{"title": "a", "title": "b", "minutes": 3}', "key 'title' is repeated; not repaired"),
        ('{"title": "Bread", "minutes": 1,200}', "not repaired"),
        ('{"title": "[MASK]", "minutes": 3', "ends inside a value"),
        ('{"title": "[MASK]", "minutes": 3,}', "/title: a value is missing"),
        ('{"title": "Bread", "minuets": 3,}', "'minutes' is a required property"),
        ('{"title": "Bread", "minutes": "3",}', "/minutes"),
        (f"{SOUND} or {SOUND}", "not repaired"),
        ("Bread, thirty minutes", "not JSON"),
        ("[1, 2,]", "is not of type 'object'"),
        ("{" * 20_000, "not repaired"),
    ],
)
def test_json_that_cannot_be_mended_surely_is_refused_with_the_reason(
    text: str, reason: str
) -> None:
    report = repair(text, RECIPE)
    assert not report.ok
    assert unchanged(report, text)
    assert reason in report.reason


MAPPING = Json.of({"type": "object", "additionalProperties": {}})


@pytest.mark.parametrize(
    ("text", "contract", "mended", "dropped", "certainty"),
    [
        ('{"a": "x", "b": 2, "a": "x"}', MAPPING, '{"a": "x", "b": 2}', ', "a": "x"', "certain"),
        ('{"a": "x", "a": "y", "b": 2}', MAPPING, '{"a": "x", "b": 2}', ', "a": "y"', "likely"),
        ('{"a": 1, "a": true}', MAPPING, '{"a": 1}', ', "a": true', "likely"),
        ('{"a": [{"b": 1, "b": 1}]}', MAPPING, '{"a": [{"b": 1}]}', ', "b": 1', "certain"),
        (SOUND[:-1] + ', "minutes": 30}', RECIPE, SOUND, ', "minutes": 30', "certain"),
    ],
)
def test_a_repeated_key_is_dropped_and_told_where_its_first_value_is_meant(
    text: str, contract: Json, mended: str, dropped: str, certainty: str
) -> None:
    report = repair(text, contract)
    assert report.ok
    assert report.text == mended
    assert [(e.before, e.after, e.rule, e.certainty) for e in report.edits] == [
        (dropped, "", "key_repeated", certainty)
    ]
    assert report.revert() == text


def test_a_repeated_key_is_dropped_beside_other_repairs_but_not_where_the_text_ends() -> None:
    text = "Here: {'a': 'x', 'b': 2,, 'a': 'y'}"
    report = repair(text, MAPPING)
    assert report.value == {"a": "x", "b": 2}
    assert report.revert() == text
    assert not repair('{"a": "x", "a": "y"', MAPPING).ok


_KEYS = st.sampled_from(["a", "b", 'q"', "é"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "a, b", "{", '"']),
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(st.tuples(_KEYS, inner), max_size=4).map(tuple)
    ),
    max_leaves=12,
)


def _written(value: Any) -> str:
    """JSON in which pairs make an object, repeated keys and all."""
    if isinstance(value, tuple):
        return "{" + ", ".join(f"{json.dumps(k)}: {_written(v)}" for k, v in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    return json.dumps(value)


def _first_of_each(value: Any) -> Any:
    if isinstance(value, tuple):
        return {key: _first_of_each(inner) for key, inner in reversed(value)}
    return [_first_of_each(inner) for inner in value] if isinstance(value, list) else value


@given(st.lists(st.tuples(_KEYS, _VALUES), max_size=5).map(tuple))
def test_the_first_value_of_each_key_is_kept_at_any_depth(pairs: tuple[Any, ...]) -> None:
    text = _written(pairs)
    report = repair(text, MAPPING)
    assert report.value == _first_of_each(pairs)
    assert report.revert() == text


def test_a_key_in_a_list_shows_that_the_list_ended_before_it() -> None:
    text = '{"title": "Bread", "tags": ["oven", "minutes": 30}'
    assert repair(text, "json").value == {"title": "Bread", "tags": ["oven"], "minutes": 30}
    assert repair(text, RECIPE).ok


def test_every_violation_of_the_schema_is_a_problem_with_its_place() -> None:
    problems = check('{"title": 1, "minutes": "x", "tags": [2]}', RECIPE)
    assert [problem.path for problem in problems] == ["/title", "/minutes", "/tags/0"]
    assert repair('{"title": 1, "minutes": "x"}', RECIPE).problems[1].path == "/minutes"


def test_a_schema_may_be_given_beside_the_kind() -> None:
    assert repair('{"title": "a", "minutes": 1,}', "json", RECIPE.schema).ok
    assert not repair('{"title": "a",}', "json", RECIPE.schema).ok


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Yes.", "yes"),
        ('"no"', "no"),
        ("**Yes**\n", "yes"),
        (" `NO`! ", "no"),
        ("\u201cYes.\u201d", "yes"),
    ],
)
def test_a_choice_is_found_behind_quotes_stops_and_case(text: str, value: str) -> None:
    report = repair(text, Choice(("yes", "no")))
    assert (report.value, report.text, report.ok) == (value, value, True)
    assert report.certainty == 1.0


@pytest.mark.parametrize("text", ["yes and no", "not yes", "y", "", "Answer: yes"])
def test_a_choice_is_never_guessed(text: str) -> None:
    assert not repair(text, Choice(("yes", "no"))).ok


def test_options_that_differ_by_case_are_told_apart_or_refused() -> None:
    contract = Choice(("US", "us"))
    assert repair('"us"', contract).value is None or repair('"us"', contract).value == "us"
    assert "each of US, us" in repair("Us", contract).reason


def test_stops_that_belong_to_an_option_are_kept() -> None:
    contract = Choice(("e.g.", "Inc."))
    assert repair('"inc."', contract).value == "Inc."


def test_a_pattern_is_found_behind_quotes_but_never_inside_the_text() -> None:
    contract = Regex(r"\d+")
    assert repair("`12`.", contract).value == "12"
    assert not repair("12 eggs", contract).ok
    assert not repair(".5", contract).ok


TABLE = "| Item | Amount |\n| --- | --- |\n| flour | 2 |"


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        (f"Here is the list:\n\n{TABLE}\n\nAnything else?", ["text_around", "text_around"]),
        (f"{TABLE}\nThat is all.", ["text_around"]),
        (f"Of course:\r\n\r\n```markdown\r\n{TABLE}\r\n```\r\nBye", ["text_around"] * 2),
        (TABLE.replace("Item", "**item**"), ["header_spelling"]),
        ("Yes:\n\n" + TABLE.replace("Amount", "AMOUNT"), ["text_around", "header_spelling"]),
    ],
)
def test_a_table_is_cut_out_of_its_surroundings(text: str, rules: list[str]) -> None:
    report = repair(text, SHOP)
    assert report.value == [{"Item": "flour", "Amount": 2}], report.reason
    assert [edit.rule for edit in report.edits] == rules
    assert report.text.replace("\r", "") == TABLE


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("No table.", "no table in"),
        (f"{TABLE}\n\n{TABLE}", "2 tables, one is asked for"),
        (TABLE.replace("flour", "flour | white"), "row 1 has 3 cells"),
        (TABLE.replace("2", "two"), "'two' is no integer"),
        (TABLE.replace("Amount", "Price"), "missing ['Amount']"),
    ],
)
def test_a_table_that_would_have_to_be_guessed_is_refused(text: str, reason: str) -> None:
    report = repair(text, SHOP)
    assert not report.ok
    assert reason in report.reason


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("Sure:\n\n- a\n  - b\n- c\n", ["text_around", "text_around"]),
        ("1. a\n   * b\n2. c", ["list_marker"] * 3),
        ("* a\n  + b\n\n- c", ["list_marker"] * 2),
        ("10. a\n    1. b\n11. c", ["list_marker"] * 3),
        ("Text\n```\n- a\n  - b\n- c\n```\nmore", ["text_around", "text_around"]),
    ],
)
def test_a_list_is_cut_out_and_its_markers_become_bullets(text: str, rules: list[str]) -> None:
    report = repair(text, Outline())
    assert report.value == [
        {"text": "a", "items": [{"text": "b", "items": []}]},
        {"text": "c", "items": []},
    ], report.reason
    assert [edit.rule for edit in report.edits] == rules


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Nothing.", "no bullet list"),
        ("- a\n\nmiddle\n\n- b", "2 lists, one is asked for"),
        ("Intro\n\n- a\n\n  second", "a further paragraph in item /0"),
        ("1. a\n   ~~~\n   x\n   ~~~", "a fence in item /0"),
    ],
)
def test_a_list_that_would_have_to_be_guessed_is_refused(text: str, reason: str) -> None:
    report = repair(text, Outline())
    assert not report.ok
    assert reason in report.reason


def test_a_plain_kind_is_mended_as_far_as_its_own_text_goes() -> None:
    report = repair("|a|b|\n|-|-|\n|1|", "mixed")
    assert report.text == "|a|b|\n|-|-|\n|1|  |"
    assert (report.ok, [hole.path for hole in report.holes]) == (False, ["/2/1"])
    assert repair("words", "table").reason == "there is no table in it"
    assert repair("words", "list").reason == "there is no list in it"
    assert repair("words", "mixed").ok
    assert repair_text('{"a": 1,}', "json") == '{"a": 1}'


def test_an_unknown_kind_is_named_with_the_known_ones() -> None:
    with pytest.raises(
        CarraraError, match="unknown kind 'yaml' of text, use one of auto, json, table"
    ):
        repair("a", "yaml")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("ab ,:é\"'\\{}[]\n", max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=8,
).filter(lambda v: isinstance(v, dict | list))


@given(JSON_VALUES, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_json_with_one_lost_mark_is_mended_without_loss_or_refused(value: Any, rng: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    marks = [n for n, mark in enumerate(text) if mark in '{}[]",:']
    at = rng.choice(marks)
    broken = text[:at] + text[at + 1 :]
    report = repair(broken, "json")
    if report.ok and report.changed:
        assert words(report.text) == words(broken)


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ('{"a": "a": null}}', '{"a": {"a": null}}'),
        ('{"a": "a": null}', '{"a": null}'),
        ('[{"a": "a": [1]}, 2]', '[{"a": [1]}, 2]'),
        ('[{"a": "a": [1]}}, 2]', '[{"a": {"a": [1]}}, 2]'),
    ],
)
def test_a_key_that_stands_twice_is_a_key_inside_where_a_bracket_too_many_closes(
    broken: str, mended: str
) -> None:
    assert repair(broken, "json").text == mended


def words(text: str) -> list[str]:
    plain = text.replace("\\n", " ").replace("\\", " ")
    return sorted("".join(c if c.isalnum() else " " for c in plain).split())


@given(st.lists(st.fixed_dictionaries({"Item": st.text("ab|*", min_size=1)}), max_size=4))
def test_prose_around_a_table_never_changes_its_rows(rows: list[dict[str, Any]]) -> None:
    text = f"Here you are:\n\n{render_table(rows, SHOP)}\n\nAnything else?"
    expected = [{"Item": row["Item"], "Amount": None} for row in rows]
    assert repair(text, SHOP).value == expected


def test_a_report_becomes_data_for_logs() -> None:
    data = repair("Yes.", Choice(("yes", "no"))).to_dict()
    assert json.loads(json.dumps(data))["edits"][0]["rule"] in ("text_around", "option_case")


def test_a_long_list_is_repaired_without_trouble() -> None:
    items = [{"text": f"item {n}", "items": []} for n in range(500)]
    text = render_outline(items).replace("- ", "* ")
    assert repair("List:\n\n" + text, Outline(max_items=500)).value == items


def test_no_heavy_library_is_loaded_by_importing_the_package() -> None:
    import subprocess
    import sys

    code = (
        "import sys, carrara.runtime.repair\n"
        "heavy = {'markdown_it', 'json_repair', 'jsonschema', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
