"""Broken JSON of every sort: the value that was meant, or a refusal where it cannot be known."""

from __future__ import annotations

import json
from typing import Any

import pytest

from carrara.runtime.repair import repair, repair_text

CASES: list[tuple[str, str, Any]] = [
    ("trailing_comma", '{"a": [1, 2,],}', {"a": [1, 2]}),
    ("missing_comma", '{"a": 1 "b": ["x" "y"]}', {"a": 1, "b": ["x", "y"]}),
    ("single_quotes", "{'a': 'it''s \"b\"'}", {"a": "it''s \"b\""}),
    ("unquoted_keys", "{a: 1, b_c: {d: 2}}", {"a": 1, "b_c": {"d": 2}}),
    ("python_literal", '{"a": True, "b": None}', {"a": True, "b": None}),
    ("unclosed_end", '{"a": [1, {"b": "c"', {"a": [1, {"b": "c"}]}),
    ("unclosed_end", '{"a": {"b": 1,\n  "', {"a": {"b": 1}}),
    ("extra_close", '{"a": 1}}, "b": 2}', {"a": 1, "b": 2}),
    ("dup_comma", '[1,, 2]', [1, 2]),
    ("dup_colon", '{"a":: 1}', {"a": 1}),
    ("missing_colon", '{"a"  1}', {"a": 1}),
    ("colon_swapped", '{"a" => 1, "b" = 2}', {"a": 1, "b": 2}),
    ("comma_swapped", '{"a": 1; "b": 2}', {"a": 1, "b": 2}),
    ("wide_punctuation", '｛"a"：［1，2］｝', {"a": [1, 2]}),
    ("key_quote_lost", '{a": 1, "b: 2}', {"a": 1, "b": 2}),
    ("value_quote_lost", '{"a": "x, "b": 1, "c": y"}', {"a": "x", "b": 1, "c": "y"}),
    ("value_quote_lost", '["a, "b", "c"]', ["a", "b", "c"]),
    ("value_quotes_lost", '{"a": hello world, "t": 12:30}', {"a": "hello world", "t": "12:30"}),
    ("comment", '{"a": 1, // one\n "b": 2 /* two */ # three\n}', {"a": 1, "b": 2}),
    ("text_around", 'Sure [really]: {"a": 1} Bye {now}!', {"a": 1}),
    ("text_around", '```json\n{"a": 1}\n```', {"a": 1}),
    ("raw_newline", '{"a": "x\ny"}', {"a": "x\ny"}),
    ("raw_control", '{"a": "x\ty"}', {"a": "x\ty"}),
    ("bad_escape", r'{"a": "C:\dir \'q\'"}', {"a": "C:\\dir 'q'"}),
    ("inner_quotes", '{"a": "he said "hi", then left", "b": 1}', {"a": 'he said "hi", then left', "b": 1}),
    ("smart_quotes", "{“a”: “say \"hi\"”}", {"a": 'say "hi"'}),
    ("array_close_lost", '{"a": ["x", "y", "b": 1}', {"a": ["x", "y"], "b": 1}),
    ("array_close_lost", '{"a": [1, 2,, "c": tru', {"a": [1, 2], "c": True}),
    ("array_close_lost", '{"a": ["x", "c": "cut of', {"a": ["x"], "c": "cut of"}),
    ("inner_quotes", '{"t": ["say "c": hi", "x"]}', {"t": ['say "c": hi', "x"]}),
    ("literal_cut", '{"a": [1, nul', {"a": [1, None]}),
    ("missing_comma", '{"a": "' + '\\"' * 90 + '" "b": 1}', {"a": '"' * 90, "b": 1}),
    ("value_quote_lost", '{"a": "' + "word " * 1000 + "end", {"a": "word " * 1000 + "end"}),
    ("value_quote_lost", '{"a": "' + "word " * 1000 + 'end}', {"a": "word " * 1000 + "end"}),
    ("close_lost", '[{"a": 1, {"a": 2}]', [{"a": 1}, {"a": 2}]),
    ("close_lost", '{\n  "a": {\n    "x": 1,\n  "b": 2\n}', {"a": {"x": 1}, "b": 2}),
    ("bracket_lost", '"a": 1, "b": 2}', {"a": 1, "b": 2}),
    ("bracket_lost", '{"a": "x", "y"], "b": 1}', {"a": ["x", "y"], "b": 1}),
    ("wrong_bracket", '{"a": [1, 2}, "b": 3}', {"a": [1, 2], "b": 3}),
    ("dup_key_token", '{"a": "a": 1}', {"a": 1}),
    ("member_restarted", '{"a": 1, "b": "tex\n"b": "text", "c": 2}', {"a": 1, "b": "text", "c": 2}),
    ("member_restarted", '[{"a": 1, "b\n{"a": 1, "b": 2}]', [{"a": 1, "b": 2}]),
    ("number_spelling", '[+5, .5, 5., 1_000]', [5, 0.5, 5, 1000]),
    ("joined_strings", '{"a": "x" + "y"}', {"a": "xy"}),
    ("ellipsis", '[1, 2, ...]', [1, 2]),
    ("strange_space", '{\u00a0"a": 1,\\n "b": 2}', {"a": 1, "b": 2}),
    ("unescaped_twice", '{\\"a\\": \\"x\\"}', {"a": "x"}),
    ("quote_swapped", '{"a": "x y," "b": 1}', {"a": "x y", "b": 1}),
    ("quote_swapped", '{"a:" "x", "b": 1}', {"a": "x", "b": 1}),
    ("colon_swapped", '[{"a": 1, "b": 2}, {"a": 3, "b", 4}]', [{"a": 1, "b": 2}, {"a": 3, "b": 4}]),
    ("missing_comma", '{"a":-0.5"b":1}', {"a": -0.5, "b": 1}),
    ("bracket_lost", '[{"a": 1, "b": 2}, "a": 3, "b": 4}]', [{"a": 1, "b": 2}, {"a": 3, "b": 4}]),
    ("dup_bracket", '{"a": [[1], "b": {"c": [2]}}', {"a": [1], "b": {"c": [2]}}),
    ("end_repeated", '{"a": {"b": 1}}{"b": 1}}', {"a": {"b": 1}}),
    ("extra_close", '[null, null], null]', [None, None, None]),
    ("member_restarted", '{"key": ["key": ["x", "y"], "b": 1}', {"key": ["x", "y"], "b": 1}),
    ("member_restarted", '{"a": ["x", "y"]["x", "y"], "b": 1}', {"a": ["x", "y"], "b": 1}),
    ("strange_space", '[\\n {\\n "a":"m",\\n "t":[]\\n }\\n]', [{"a": "m", "t": []}]),
    ("comment", '[ # one\n {"a": 1}]', [{"a": 1}]),
    ("mask_left", '[{"a": 1,[MASK] "b": 2}, {"a": 3}]', [{"a": 1, "b": 2}, {"a": 3}]),
    ("mask_left", '{"a":<|im_end|>95, "b": 2}', {"a": 95, "b": 2}),
    ("mask_left", '{"a": 1<|im_end|>, "b": 2}', {"a": 1, "b": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "broken", "value"), CASES)
def test_broken_json_is_read_as_it_was_meant(rule: str, broken: str, value: Any) -> None:
    report = repair(broken, "json")
    assert json.loads(report.text) == value == report.value
    assert rule in {part for edit in report.edits for part in edit.rule.split("+")}
    assert repair_text(report.text, "json") is report.text


@pytest.mark.parametrize(
    ("broken", "path", "kind"),
    [
        ('{"a": , "b": 1}', "/a", "any"),
        ('[{"n": 1}, {"n": [MASK]}]', "/1/n", "integer"),
        ('[{"n": 1}, {"n": 2.5}, {"n": [MASK]}]', "/2/n", "number"),
        ('[{"n": 1}, {"n": "x"}, {"n": [MASK]}]', "/2/n", "any"),
        ('[{"n": [1]}, {"n": [MASK]}]', "/1/n", "array"),
        ('{"a": {"n": {"x": 1}}, "n": [MASK]}', "/n", "any"),
        ('{"a": {"n": true}, "n": [MASK]}', "/n", "boolean"),
        ('{"n": ["x", [MASK], "y"]}', "/n/1", "string"),
        ('{"a": {"b": "[MASK][MASK]"}}', "/a/b", "string"),
        ('[{"ok": true}, {"ok": <|mdm_mask|>}]', "/1/ok", "boolean"),
    ],
)
def test_a_lost_value_is_a_hole_with_its_path_and_type(broken: str, path: str, kind: str) -> None:
    report = repair(broken, "json")
    assert [(hole.path, hole.type) for hole in report.holes] == [(path, kind)]
    assert not report.ok
    assert json.loads(report.text) == report.value
    start, end = report.holes[0].start, report.holes[0].end
    assert report.text[start:end] in ("null", '""')


@pytest.mark.parametrize(
    "text",
    ['{"a": {"b": 1}}, "a": 3}', '{"a": 1}, "a": 3}', '{"x": {"a": 1}}, "x": 3, "c": 4}'],
)
def test_a_bracket_too_many_is_left_where_its_member_would_replace_another(text: str) -> None:
    report = repair(text, "json")
    assert (report.text, report.edits, report.ok) == (text, (), False)
    assert report.problems


def test_the_schema_says_the_type_of_a_hole_and_whether_the_value_fits() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "string"}}}
    report = repair('{"a": , "b": 2}', "json", schema)
    assert report.holes[0].type == "number"
    assert [p.path for p in report.problems] == ["/a", "/b", "/a"]


@pytest.mark.parametrize(
    "text",
    ['{"a": 1}{"b": 2}', '{"a": 1}\n{"b": 2}', '{"a": 1}, {"b": 2}', "no json here", '"a" "b"',
     '{"a": 1}\nINSERT\n{\nb: 2,\n}']
)  # fmt: skip
def test_what_would_lose_a_value_is_left_as_it_is(text: str) -> None:
    report = repair(text, "json")
    assert (report.text, report.edits, report.ok) == (text, (), False)
    assert report.problems


@pytest.mark.parametrize(
    "text",
    [
        "[]", "{}\n", "0", '"a"', "null", "true\n", '  {"a" : 1 , "b" : [ ] }  ', '{"k":"// no comment"}',
        '{"k":"it\'s [x] {y}, z:"}', '["a,", ",b", ":", "}{", "]["]', "[[1,1],[1,1]]", '{"":""}', "[1e5,-0.0,1E-7]",
        '{"a":1,"a":1}', '{"k":"say [MASK]"}'.replace("[MASK]", "mask"),
    ],
)  # fmt: skip
def test_sound_json_is_the_same_object(text: str) -> None:
    assert repair_text(text, "json") is text
    assert repair(text, "json").text is text
