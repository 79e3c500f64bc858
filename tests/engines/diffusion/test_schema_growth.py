"""What a schema costs grows with its size: what no scaffold of a sensible size holds is refused, and nothing is done
once for each way through a schema."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count
from types import FrameType
from typing import Any

import pytest
from pydantic import BaseModel, create_model

from carrara.engines.contract import Column, Json, Table
from carrara.engines.diffusion.scaffold.compile import compiled, refusal
from carrara.engines.diffusion.scaffold.forms import Gate, Items, Program, Ref, Seq
from carrara.engines.diffusion.scaffold.lexicon import Lexicon
from carrara.engines.diffusion.scaffold.room import Budget
from carrara.engines.diffusion.scaffold.scaffold import Scaffold
from carrara.engines.diffusion.scaffold.schema_cycles import cycles
from carrara.engines.diffusion.scaffold.tree import Tree

Schema = dict[str, Any]
Fill = Callable[..., Any]


def in_few_calls(work: Callable[[], None], most: int = 2_000_000) -> None:
    """Do `work`, which ends after `most` calls of Python functions at the latest: some seconds."""
    calls = count(1)

    def seen(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and next(calls) > most:
            sys.setprofile(None)
            raise AssertionError(f"more than {most:,} calls")

    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(None)


def laid_out(schema: Schema, lexicon: Lexicon) -> None:
    """All that is done for a schema before the first pass."""
    contract = Json.of(schema)
    assert refusal(contract) is None
    scaffold = Scaffold(compiled(contract), lexicon)
    tree = Tree(scaffold, Budget(max(scaffold.least_tokens, 400)))
    assert tree.room.most(scaffold.program.root) >= scaffold.least_tokens
    assert all(scaffold.height(form) < 99 for form in [scaffold.program.root])


def optional_members(depth: int, members: int) -> Schema:
    fields: Any = {f"f{number}": (str, "") for number in range(members)}
    inner: type[BaseModel] = create_model("Innermost", **fields)
    for level in range(depth - 1):
        inner = create_model(f"Level{level}", **fields, inner=(inner, inner()))
    return inner.model_json_schema()


def nested_lists(depth: int) -> Schema:
    schema: Schema = {"type": "boolean"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema, "minItems": 2}
    return schema


def merged_lists(depth: int) -> Schema:
    """Lists whose items come out of two schemas that both hold, level by level."""
    left: Schema = {"type": "array"}
    right: Schema = {"type": "array"}
    for _ in range(depth):
        left, right = {"type": "array", "items": left}, {"type": "array", "items": right}
    return {"allOf": [{**left, "minItems": 1}, {**right, "maxItems": 3}]}


def merged_references(depth: int) -> Schema:
    """Two chains of schemas that hold together, each with two members of its next level."""
    defs: Schema = {}
    for side in "LR":
        for level in range(depth):
            beyond = {"type": "string"}
            if level + 1 < depth:
                beyond = {"$ref": f"#/$defs/{side}{level + 1}", "description": f"{side}"}
            members = {"p": beyond, "q": {**beyond, "title": "Q"}, f"{side}{level}": {}}
            defs[f"{side}{level}"] = {"type": "object", "properties": members}
    return {"$defs": defs, "allOf": [{"$ref": "#/$defs/L0"}, {"$ref": "#/$defs/R0"}]}


def members_left_out(count: int) -> Schema:
    members = {f"f{number}": {"type": "string"} for number in range(count)}
    return {"type": "object", "properties": members}


def unions_of_unions(depth: int) -> Schema:
    defs: Schema = {"U0": {"anyOf": [{"type": "string"}, {"type": "null"}]}}
    for level in range(depth):
        below = [{"$ref": f"#/$defs/U{level}", "description": word} for word in "ab"]
        defs[f"U{level + 1}"] = {"anyOf": below}
    return {"$defs": defs, "$ref": f"#/$defs/U{depth}"}


def expressions(kinds: int) -> Schema:
    """A syntax tree: each kind of node has two more of any kind."""
    either = {"$ref": "#/$defs/E"}
    nodes: Schema = {
        f"K{number}": {
            "type": "object",
            "properties": {"kind": {"const": f"K{number}"}, "left": either, "right": either},
            "required": ["kind", "left", "right"],
        }
        for number in range(kinds)
    }
    union = {"anyOf": [{"type": "string"}, *({"$ref": f"#/$defs/{name}"} for name in nodes)]}
    return {"$defs": {**nodes, "E": union}, **either}


def lists_of_all(classes: int) -> Schema:
    names = [f"C{number}" for number in range(classes)]
    lists: Schema = {
        name: {"type": "array", "items": {"$ref": f"#/$defs/{name}"}} for name in names
    }
    each = {"type": "object", "properties": lists, "required": names}
    return {"$defs": dict.fromkeys(names, each), "$ref": "#/$defs/C0"}


def chained_cycles(length: int) -> Schema:
    """Pairs of schemas that contain each other, each with members of the next pair."""
    defs: Schema = {}
    for number in range(length):
        beyond = {"type": "string"} if number + 1 == length else None
        for one, other in ("AB", "BA"):
            members = {
                "other": {"anyOf": [{"$ref": f"#/$defs/{other}{number}"}, {"type": "null"}]},
                "a": beyond or {"$ref": f"#/$defs/A{number + 1}"},
                "b": beyond or {"$ref": f"#/$defs/B{number + 1}"},
            }
            defs[f"{one}{number}"] = {
                "type": "object",
                "properties": members,
                "required": ["other"],
            }
    return {"$defs": defs, "$ref": "#/$defs/A0"}


@pytest.mark.parametrize(
    "schema",
    [
        optional_members(8, 10),
        nested_lists(20),
        merged_lists(20),
        expressions(10),
        lists_of_all(8),
        chained_cycles(10),
        merged_references(30),
        members_left_out(400),
        unions_of_unions(60),
    ],
    ids=[
        *("optional", "lists", "merged", "expressions", "mutual", "chained"),
        *("merged references", "left out", "unions"),
    ],
)
def test_shared_parts_of_a_schema_are_looked_at_once(schema: Schema, lexicon: Lexicon) -> None:
    in_few_calls(lambda: laid_out(schema, lexicon))


def test_answers_of_schemas_that_contain_each_other_hold(fill: Fill) -> None:
    for seed in range(10):
        fill(Json.of(expressions(3)), seed, Budget(300, 64, 6, depth=4))
        fill(Json.of(lists_of_all(3)), seed, Budget(300, 64, 6, depth=3))
        fill(Json.of(chained_cycles(2)), seed, Budget(300, 64, 6, depth=3))


def test_a_tag_tells_nested_alternatives_apart(lexicon: Lexicon) -> None:
    """The kinds of a syntax tree are read from what the model puts behind "kind", below the first level too."""
    program = compiled(Json.of(expressions(3)))
    gates = [gate for form in program.rules.values() for gate in _unions(form)]
    assert gates
    for gate in gates:
        signs = [option.signs for option in gate.options if isinstance(option.body, Ref)]
        assert signs == [((f' {{"kind": "K{number}"'),) for number in range(3)]


def _unions(form: Any) -> list[Gate]:
    if isinstance(form, Seq):
        return [gate for part in form.parts for gate in _unions(part)]
    inner = getattr(form, "part", form)
    return [inner] if isinstance(inner, Gate) and inner.kind == "union" else []


def test_a_branch_that_cannot_be_held_is_left_out_of_schemas_that_contain_each_other(
    fill: Fill,
) -> None:
    bad = {
        "type": "object",
        "properties": {"node": {"$ref": "#/$defs/Node"}, "x": {"not": {"type": "string"}}},
        "required": ["node", "x"],
    }
    node = {
        "type": "object",
        "properties": {
            "below": {
                "anyOf": [
                    {"$ref": "#/$defs/Bad"},
                    {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                ]
            }
        },
        "required": ["below"],
    }
    contract = Json.of({"$defs": {"Bad": bad, "Node": node}, "$ref": "#/$defs/Node"})
    assert refusal(contract) is None
    assert not any("Bad" in name for name in compiled(contract).rules)
    for seed in range(5):
        fill(contract, seed, Budget(80, 64, 6, depth=3))
    alone = {**contract.schema, "$ref": "#/$defs/Bad"}
    assert (
        refusal(Json.of(alone))
        == "at /properties/x: the keyword 'not' cannot be held by a scaffold"
    )


def test_a_reference_with_siblings_is_another_schema_than_the_one_without(fill: Fill) -> None:
    """Also where both name what is being compiled: the siblings hold there, too."""
    tree = {
        "type": "object",
        "properties": {
            "a": {"type": "boolean"},
            "plain": {"anyOf": [{"$ref": "#/$defs/T"}, {"type": "null"}]},
            "full": {"anyOf": [{"$ref": "#/$defs/T", "required": ["a"]}, {"type": "null"}]},
        },
        "required": ["plain", "full"],
    }
    contract = Json.of({"$defs": {"T": tree}, "$ref": "#/$defs/T"})
    for seed in range(20):
        fill(contract, seed, Budget(200, 64, 6, depth=3))


def test_cycles_are_what_leads_back_to_itself() -> None:
    leads = {"a": "b", "b": "ac", "c": "d", "d": "", "e": "e", "f": "ae"}
    found = cycles(leads, leads.__getitem__)
    assert set(found) == {"a", "b", "e"}
    assert found["a"] == found["b"] != found["e"]


def test_unions_that_hold_together_are_refused_before_they_multiply() -> None:
    def union(place: int, options: int) -> Schema:
        names = [f"p{place}_{number}" for number in range(options)]
        return {
            "anyOf": [
                {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}
                for name in names
            ]
        }

    assert refusal(Json.of({"allOf": [union(0, 8), union(1, 8)]})) is None
    many = Json.of({"allOf": [union(place, 8) for place in range(12)]})
    assert str(refusal(many)).endswith("branches or more (at most 64)")


def test_a_list_with_a_million_required_items_behind_named_ones_is_refused() -> None:
    schema = {"type": "array", "prefixItems": [{"type": "null"}], "minItems": 10**6}
    assert refusal(Json.of(schema)) == (
        "minItems 1,000,000 behind prefixItems: at most 2,048 items can be asked for there"
    )
    assert refusal(Json.of({**schema, "minItems": 1000})) is None


def test_a_string_that_is_too_long_to_be_counted_is_refused() -> None:
    assert refusal(Json.of({"type": "string", "minLength": 2048})) is None
    assert refusal(Json.of({"type": "string", "minLength": 100_000})) == (
        "minLength: 100,000 characters, a string is held to at most 2,048 required ones"
    )


def test_lists_and_tables_of_thousands_of_items_have_a_least_cost(lexicon: Lexicon) -> None:
    for contract in (
        Json.of({"type": "array", "items": {"type": "null"}, "minItems": 5000}),
        Table((Column("a", "boolean"),), 5000),
    ):
        scaffold = Scaffold(compiled(contract), lexicon)
        tree = Tree(scaffold, Budget(scaffold.least_tokens))
        assert tree.room.positions(tree.root) == scaffold.least_tokens


def test_the_end_of_a_list_costs_what_its_items_and_gates_do(lexicon: Lexicon) -> None:
    scaffold = Scaffold(
        compiled(Json.of({"type": "array", "items": {"type": "null"}, "minItems": 3})), lexicon
    )
    assert isinstance(scaffold.program.root, Seq)
    items = next(part for part in scaffold.program.root.parts if isinstance(part, Items))
    gate = scaffold.plan(items.gate(0))
    for more in range(5):
        assert scaffold.end_cost(items, 0, more) == (
            more * (gate.length(0) + scaffold.cost(items.later)) + gate.length(1)
        )


def test_costs_of_rules_come_to_rest_where_one_needs_another(lexicon: Lexicon) -> None:
    rules = {"a": Seq((Ref("b"),)), "b": Seq((Ref("c"),)), "c": Seq(())}
    scaffold = Scaffold(Program(Ref("a"), rules, {"a": 2, "b": 1, "c": 0}), lexicon)
    assert scaffold.least_tokens == 0
    assert scaffold.height(Ref("a")) == 3
