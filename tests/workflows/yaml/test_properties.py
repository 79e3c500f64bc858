"""Pipelines made by chance: good ones load, run and come back from their text; damaged ones are refused with places."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import carrara
from carrara.engines.request import Request
from carrara.engines.scripted import ScriptedEngine
from carrara.workflows.yaml import Pipeline, PipelineError, dumps, loads
from carrara.workflows.yaml.schema import pipeline_schema

SCALARS = st.sampled_from(["str", "int", "float?", "bool", "date", "str?", "Part", "Kind?"])
FIELDS = st.sampled_from(["title", "n", "parts", "kind", "copy"])


def types() -> st.SearchStrategy[Any]:
    inner = st.recursive(
        st.one_of(
            SCALARS,
            st.just({"type": "int", "min": 1, "max": 9}),
            st.just({"one_of": ["a", "b"]}),
            st.just({"type": "str", "max_length": 5, "description": "Short.", "optional": True}),
        ),
        lambda part: st.one_of(
            st.lists(part, min_size=1, max_size=1),
            st.dictionaries(FIELDS, part, min_size=1, max_size=3),
            st.builds(lambda item: {"list": item, "min_items": 1}, part),
            st.builds(lambda item: {"map": item}, part),
        ),
        max_leaves=5,
    )
    return st.one_of(
        inner,
        st.just({"table": {"item": "str", "n": "int"}, "max_rows": 4}),
        st.just({"outline": {"depth": 2}}),
        st.just({"regex": "[A-Z]{2}-[0-9]{3}"}),
        st.just({"schema": {"type": "object"}}),
    )


@st.composite
def steps(draw: Any, names: list[str], own: str) -> dict[str, Any]:
    """A step that may refer to any of `names`."""
    step: dict[str, Any] = {}
    name = draw(st.sampled_from(names))
    reference = draw(st.sampled_from([name, f"{name} or 'x'", f"[{name}] | length"]))
    match draw(st.sampled_from(["plain", "plain", "each", "when", "repeat", "both"])):
        case "each":
            step |= {"for_each": f"{{{{ [{name}, {name}] }}}}", "as": "one", "limit": 2}
            reference = "one"
        case "both":
            step |= {"for_each": [1, f"{{{{ {name} }}}}"], "when": "item or true"}
            step |= {"repeat": {"max": 2}}
            reference = "item"
        case "when":
            step["when"] = draw(st.sampled_from([True, False, f"{name} is none", f"not {name}"]))
        case "repeat":
            step["repeat"] = {"max": 3, "until": draw(st.sampled_from([own, "previous", False]))}
            reference = "previous"
    match draw(st.sampled_from(["llm", "llm", "llm", "python", "use"])):
        case "python":
            step |= {"python": "builtins:dict", "with": {"x": f"{{{{ {reference} }}}}", "y": [1]}}
        case "use":
            step |= {"use": "inner.yaml", "with": {"text": f"a {{{{ {reference} }}}}"}}
        case _:
            step |= {
                "llm": f"About {{{{ {reference} }}}}\n  and {{{{ {draw(st.sampled_from(names))} }}}}"
            }
            step |= {"returns": draw(types())}
            step |= draw(st.sampled_from([{}, {"retries": 1, "timeout": "2m"}, {"tags": ["x"]}]))
    return step


@st.composite
def pipelines(draw: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": "made",
        "inputs": {"text": "str", "n": {"type": "int", "default": 3}, "maybe": "Part?"},
        "types": {"Part": {"name": "str", "within": "Part?"}, "Kind": {"one_of": ["x", "y"]}},
        "steps": {},
    }
    names = list(found["inputs"])
    for number in range(draw(st.integers(1, 4))):
        own = f"s{number}"
        found["steps"][own] = draw(steps(names, own))
        names.append(own)
    order = draw(st.permutations(list(found["steps"])))
    found["steps"] = {name: found["steps"][name] for name in order}
    if draw(st.booleans()):
        found["outputs"] = {"all": [f"{{{{ {name} }}}}" for name in order], "text": "a {{ text }}"}
    return found


INNER = "inputs: {text: str}\nsteps:\n  s: {llm: '{{ text }}'}\noutputs: {text: '{{ s }}'}\n"


def written(data: Any) -> str:
    """JSON is YAML, and leaves nothing to the writer under test."""
    import json

    return json.dumps(data, indent=1)


def loaded(text: str, folder: Path) -> Pipeline:
    (folder / "inner.yaml").write_text(INNER)
    return loads(text, path=folder / "made.yaml")


QUIET = settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@QUIET
@given(pipelines())
def test_a_good_pipeline_loads_runs_and_comes_back_from_its_text(
    any_answer: Callable[[Request], str], data: dict[str, Any]
) -> None:
    with tempfile.TemporaryDirectory() as made:
        pipeline = loaded(written(data), Path(made))
        again = loaded(dumps(pipeline.definition), Path(made))
        assert again.definition == pipeline.definition
        result = carrara.run_sync(
            pipeline.workflow, text="hi", engines={"ar": ScriptedEngine("ar", any_answer)}
        )
        assert set(result.value) == set(pipeline.outputs)
        assert len(carrara.plan(pipeline.workflow).steps) >= len(data["steps"])


@QUIET
@given(pipelines())
def test_a_good_pipeline_fits_the_schema_for_editors(data: dict[str, Any]) -> None:
    from jsonschema import Draft7Validator

    assert [e.message for e in Draft7Validator(pipeline_schema()).iter_errors(data)] == []


def places(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    return [at, *(place for key, part in inner for place in places(part, (*at, key)))]


@QUIET
@given(pipelines(), st.data())
def test_a_damaged_pipeline_loads_or_is_refused_with_places(
    data: dict[str, Any], chance: Any
) -> None:
    damaged = copy.deepcopy(data)
    for _ in range(chance.draw(st.integers(1, 3))):
        place = chance.draw(st.sampled_from(places(damaged)))
        if not place:
            continue
        holder = damaged
        for key in place[:-1]:
            holder = holder[key]
        junk = chance.draw(
            st.sampled_from(
                [
                    None,
                    3,
                    -1,
                    1.5,
                    "",
                    "x",
                    "{{ nope }}",
                    "{{",
                    "{% if",
                    [],
                    [[]],
                    {},
                    {"a": {}},
                    True,
                ]
            )
        )
        match chance.draw(st.sampled_from(["replace", "remove", "rename"])):
            case "replace":
                holder[place[-1]] = junk
            case "remove":
                del holder[place[-1]]
            case _ if isinstance(holder, dict):
                holder[f"{place[-1]}x"] = holder.pop(place[-1])
    refused = None
    with tempfile.TemporaryDirectory() as made:
        try:
            loaded(written(damaged), Path(made))
        except PipelineError as error:
            refused = error.mistakes
    assert refused is None or (refused and all(m.line >= 1 <= m.column for m in refused))
