"""Only the doubtful fields are asked of the next engine; what was sure stays as it was."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.contract import Json
from carrara.engines.request import Completion, Confidence
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.events import Accepted, EngineCalled, Rejected
from carrara.runtime.routing.accept import Accept
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.mixed import part_of
from carrara.runtime.routing.policy import Policy, Rule

STRING = {"type": "string"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": STRING,
        "home": {"$ref": "#/$defs/Home"},
        "tags": {"type": "array", "items": STRING},
    },
    "required": ["name", "home", "tags"],
    "$defs": {
        "Home": {
            "type": "object",
            "properties": {"street": STRING, "town": STRING},
            "required": ["street", "town"],
        }
    },
}
PERSON = Json.of(SCHEMA)
ANN = {"name": "Ann", "home": {"street": "Elm", "town": "Oslo"}, "tags": ["a", "b"]}
Ask = Callable[..., Any]


def test_the_contract_of_a_part_has_just_its_fields() -> None:
    part = part_of(PERSON, ["/home/town", "/tags/1"], ANN)
    assert part is not None
    assert part.told == "/tags, /home/town"
    found = {"home": {"town": "Bergen"}, "tags": ["c"]}
    part.output.check(found)
    assert part.merged(found) == {
        "name": "Ann",
        "home": {"street": "Elm", "town": "Bergen"},
        "tags": ["c"],
    }
    assert ANN["tags"] == ["a", "b"]


@pytest.mark.parametrize(
    ("inner", "value"),
    [
        ({"anyOf": [{"$ref": "#/$defs/Home"}, {"type": "null"}]}, ANN["home"]),
        ({"type": "object", "additionalProperties": STRING}, {"street": "Elm"}),
        ({"allOf": [{"$ref": "#/$defs/Home"}]}, ANN["home"]),
    ],
)
def test_what_has_no_cut_within_an_answer_is_asked_for_whole(inner: Any, value: Any) -> None:
    inside = {"type": "object", "properties": {"at": inner, "n": STRING}, "required": ["at", "n"]}
    schema = {**SCHEMA, "properties": {"name": STRING, "home": inner, "deep": inside}}
    draft = {"name": "Ann", "home": value, "deep": {"at": value, "n": "1"}}
    part = part_of(Json.of(schema), ["/home/street", "/deep/at/street"], draft)
    assert part is not None
    assert part.told == "/home, /deep/at"
    other = {**value, "street": "Oak"}
    found = {"home": other, "deep": {"at": other}}
    part.output.check(found)
    assert part.merged(found) == {"name": "Ann", "home": other, "deep": {"at": other, "n": "1"}}


@pytest.mark.parametrize(
    ("schema", "fields", "draft"),
    [
        (SCHEMA, ["/name", "/home", "/tags"], ANN),  # nothing would stay
        (SCHEMA, [""], ANN),
        (SCHEMA, ["/nowhere"], ANN),
        ({"anyOf": [SCHEMA]}, ["/name"], ANN),
        ({"type": "array", "items": STRING}, ["/0"], ["a"]),
    ],
)
def test_what_cannot_be_cut_is_asked_as_a_whole(schema: Any, fields: list[str], draft: Any) -> None:
    assert part_of(Json.of(schema), fields, draft) is None


@given(
    st.sets(
        st.sampled_from(["/name", "/home/street", "/home/town", "/tags/0", "/tags"]), min_size=1
    )
)
def test_everything_outside_the_part_is_kept(fields: set[str]) -> None:
    part = part_of(PERSON, sorted(fields), ANN)
    if part is None:
        return
    other = {"name": "X", "home": {"street": "X", "town": "X"}, "tags": ["X"]}
    found = {key: other[key] for key in part.output.schema["properties"]}
    merged = part.merged(found)
    PERSON.check(merged)
    for pointer, value, now in (
        ("/name", ANN["name"], merged["name"]),
        ("/home/street", "Elm", merged["home"]["street"]),
        ("/home/town", "Oslo", merged["home"]["town"]),
    ):
        assert (now == "X") == (pointer in fields), pointer
        assert now in (value, "X")


def drafted(value: Any, **fields: float) -> Completion:
    sure = {f"/{name}": share for name, share in fields.items()}
    return Completion(json.dumps(value), confidence=Confidence(0.9, sure))


def engines(first: Any, *second: Any) -> tuple[ScriptedEngine, ScriptedEngine]:
    return (
        ScriptedEngine("diffusion", [first], can=["schema"]),
        ScriptedEngine("ar", second, can=["schema"]),
    )


def test_the_next_engine_is_asked_for_the_doubtful_field_alone(context: Any, ask: Ask) -> None:
    first, second = engines(drafted(ANN, name=0.1, home=0.9, tags=0.9), '{"name": "Anna"}')
    ctx = context(first, second)
    assert ask(ctx, output=PERSON) == {**ANN, "name": "Anna"}
    output = second.requests[0].output
    assert isinstance(output, Json)
    assert list(output.schema["properties"]) == ["name"]
    assert ctx.told(EngineCalled)[1].reason.startswith("only /name: diffusion: confidence of /name")
    (accepted,) = ctx.told(Accepted)
    assert accepted.engine == "ar"
    assert accepted.engines == {"/home": "diffusion", "/tags": "diffusion"}
    assert (accepted.fields["/home"], accepted.fields["/tags"]) == (0.9, 0.9)


def test_validators_see_the_mixed_answer_and_may_ask_for_the_whole(context: Any, ask: Ask) -> None:
    def named_bob(value: Any) -> Any:
        if value["name"] != "Bob":
            raise ValueError("it is Bob's")
        return value

    bob = {**ANN, "name": "Bob"}
    first, second = engines(
        drafted(ANN, name=0.9, home=0.1, tags=0.9),
        '{"home": {"street": "Oak", "town": "Rome"}}',
        json.dumps(bob),
    )
    ctx = context(first, second)
    # The first answer fails the check as a whole before its confidence is looked at.
    assert ask(ctx, output=PERSON, validate=named_bob) == bob
    assert ctx.told(Accepted)[0].engines == {}


def test_an_answer_in_doubt_as_a_whole_is_asked_as_a_whole(context: Any, ask: Ask) -> None:
    first, second = engines(drafted(ANN, name=0.1, home=0.1, tags=0.1), json.dumps(ANN))
    ctx = context(first, second)
    assert ask(ctx, output=PERSON) == ANN
    assert second.requests[0].output == PERSON


SURER = Accept(0.5, 0.3, engines={"verified": Accept(0.5, 0.9)})


def three_engines(second: Any) -> tuple[ScriptedEngine, ...]:
    return (
        ScriptedEngine("diffusion", [drafted(ANN, name=0.1, home=0.8, tags=0.8)], can=["schema"]),
        ScriptedEngine("verified", second, can=["schema"]),
        ScriptedEngine("ar", ['{"name": "Anna"}', json.dumps(ANN)], can=["schema"]),
    )


def three_in_a_row() -> Router:
    rules = (Rule(("diffusion", "verified", "ar")),)
    return Router(Policy(rules=rules, accept={"json": SURER}, choose="order"))


def test_a_field_that_stays_is_held_to_what_its_own_engine_needs(context: Any, ask: Ask) -> None:
    sure = Completion('{"name": "Anna"}', confidence=Confidence(0.95, {"/name": 0.95}))
    engines = three_engines([sure])
    ctx = context(*engines, router=three_in_a_row())
    assert ask(ctx, output=PERSON) == {**ANN, "name": "Anna"}
    assert [len(engine.requests) for engine in engines] == [1, 1, 0]
    assert ctx.told(Accepted)[0].engines == {"/home": "diffusion", "/tags": "diffusion"}


def test_a_field_that_was_asked_for_is_held_to_what_the_second_engine_needs(
    context: Any, ask: Ask
) -> None:
    doubtful = Completion('{"name": "Anna"}', confidence=Confidence(0.8, {"/name": 0.8}))
    engines = three_engines([doubtful, drafted(ANN, name=0.95, home=0.95, tags=0.95)])
    ctx = context(*engines, router=three_in_a_row())
    assert ask(ctx, output=PERSON) == ANN
    assert ctx.told(Rejected)[1].reason == "confidence of /name 0.80 is below 0.90"
