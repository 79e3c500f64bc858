"""What a policy's thresholds name must be there: every part of every answer may be named, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.contract import Choice, Column, Contract, Json, Outline, Table
from carrara.engines.json_schema import pointer
from carrara.runtime.routing.accept import Accept
from carrara.runtime.routing.misnamed import Asked, misnamed
from carrara.runtime.routing.policy import Policy

ADDRESS = Json.of(
    {
        "type": "object",
        "properties": {
            "zip": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}},
            "tree": {"$ref": "#/$defs/Tree"},
            "more": {"type": "object", "additionalProperties": {"type": "number"}},
            "a/b": {"type": "string"},
        },
        "$defs": {
            "Item": {"type": "object", "properties": {"price": {"type": "number"}}},
            "Tree": {"type": "object", "properties": {"sub": {"$ref": "#/$defs/Tree"}}},
        },
    }
)
TABLE = Table((Column("city"), Column("year")))


def messages(field: str, contract: Contract | None) -> list[str]:
    policy = Policy(steps={"x": Accept(fields={field: 0.5})})
    return [found.message for found in misnamed(policy, Asked({"x": contract}))]


@pytest.mark.parametrize(
    ("contract", "field"),
    [
        (ADDRESS, "/zip"),
        (ADDRESS, "/items"),
        (ADDRESS, "/items/*/price"),
        (ADDRESS, "/items/3/price"),
        (ADDRESS, "/*"),
        (ADDRESS, "/more/anything"),
        (ADDRESS, "/a~1b"),
        (ADDRESS, "/tree" + "/sub" * 9),  # it refers to itself: not followed for ever
        (ADDRESS, ""),
        (TABLE, "/*/city"),
        (TABLE, "/0/year"),
        (Choice(("a", "b")), ""),
        (Outline(), "/anything"),
        (None, "/anything"),
    ],
)
def test_a_field_that_may_come_is_no_typo(contract: Contract | None, field: str) -> None:
    assert messages(field, contract) == []


@pytest.mark.parametrize(
    ("contract", "field", "meant"),
    [
        (ADDRESS, "/zpi", "'/zip'"),
        (ADDRESS, "/items/*/prize", "'/items/*/price'"),
        (ADDRESS, "/items/price", "'/items/*/price'"),
        (ADDRESS, "/a/b", "'/a~1b'"),
        (TABLE, "/*/citi", "'/*/city'"),
        (TABLE, "/city", "'/*/city'"),
        (Choice(("a", "b")), "/a", None),
    ],
)
def test_a_field_that_cannot_come_is_named_with_the_nearest(
    contract: Contract, field: str, meant: str | None
) -> None:
    (message,) = messages(field, contract)
    assert f"names a field {field!r} that step 'x' does not have" in message
    assert meant is None or message.endswith(f"Did you mean {meant}?")


def test_a_step_is_named_alone_or_by_its_path() -> None:
    asked = Asked({"extract": ADDRESS, "inner/mood": Choice(("a", "b"))}, frozenset({"merge"}))
    good = ("extract", "mood", "inner/mood", "flow/inner/mood")
    assert misnamed(Policy(steps=dict.fromkeys(good, Accept())), asked) == []
    bad = {"extrct": "Did you mean 'extract'?", "merge": "asks no model", "inner": "is not there"}
    found = misnamed(Policy(steps=dict.fromkeys(bad, Accept())), asked)
    assert [one.place for one in found] == [("steps", name) for name in bad]
    assert all(words in one.message for words, one in zip(bad.values(), found, strict=True))


def test_where_not_all_steps_are_known_none_is_a_typo() -> None:
    policy = Policy(steps={"other": Accept()}, accept={"json": Accept(fields={"/x": 0.5})})
    assert misnamed(policy, Asked({"extract": ADDRESS}, whole=False)) == []
    assert len(misnamed(policy, Asked({"extract": ADDRESS}))) == 2


def test_a_field_of_a_kind_must_be_in_one_of_its_answers() -> None:
    other = Json.of({"type": "object", "properties": {"year": {"type": "integer"}}})
    policy = Policy(accept={"json": Accept(fields={"/zip": 0.5, "/year": 0.5, "/yaer": 0.5})})
    found = misnamed(policy, Asked({"a": ADDRESS, "b": other, "c": Choice(("a", "b"))}))
    assert [one.place for one in found] == [("accept", "json", "fields", "/yaer")]
    assert misnamed(policy, Asked({"c": Choice(("a", "b"))})) == []


keys = st.text(min_size=1, max_size=4)
answers = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


def schema_of(value: Any) -> dict[str, Any]:
    match value:
        case dict():
            return {"type": "object", "properties": {k: schema_of(v) for k, v in value.items()}}
        case list():
            return {"type": "array", "items": {"anyOf": [schema_of(one) for one in value] or [{}]}}
        case _:
            return {"type": "string" if isinstance(value, str) else "integer"}


def parts_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    match value:
        case dict():
            inner = list(value.items())
        case list():
            inner = list(enumerate(value))
        case _:
            inner = []
    return [path, *(part for key, one in inner for part in parts_of(one, (*path, key)))]


@given(answers)
def test_every_part_of_an_answer_may_be_named(value: Any) -> None:
    contract = Json.of(schema_of(value))
    for path in parts_of(value):
        assert messages(pointer(path), contract) == []
