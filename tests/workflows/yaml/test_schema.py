"""The JSON Schema for editors: current, within draft 7, and of one mind with the loader."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from ruamel.yaml import YAML
from typer.testing import CliRunner

from carrara.cli.app import app
from carrara.workflows.yaml.schema import pipeline_schema, schema_text

ROOT = Path(__file__).parents[3]


def errors(text: str) -> list[str]:
    data = YAML(typ="safe", pure=True).load(text)
    return [error.message for error in Draft7Validator(pipeline_schema()).iter_errors(data)]


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(part)


def test_the_file_in_the_repository_is_current() -> None:
    """If not: `carrara schema --output schemas/pipeline.schema.json`."""
    assert (ROOT / "schemas" / "pipeline.schema.json").read_text(encoding="utf-8") == schema_text()


def test_the_schema_is_one_of_draft_7_and_uses_no_later_keyword() -> None:
    schema = pipeline_schema()
    Draft7Validator.check_schema(schema)
    later = {
        "$defs",
        "prefixItems",
        "dependentRequired",
        "dependentSchemas",
        "unevaluatedProperties",
    }
    assert not any(later & node.keys() for node in nodes(schema))


def test_every_key_has_a_description() -> None:
    schema = pipeline_schema()
    models = [schema, *schema["definitions"].values()]
    found = [
        (model.get("description"), key)
        for model in models
        for key, part in model.get("properties", {}).items()
        if not part.get("description")
    ]
    assert found == []


def test_nothing_stands_beside_a_reference_where_editors_would_not_see_it() -> None:
    assert [node for node in nodes(pipeline_schema()) if "$ref" in node and len(node) > 1] == []


@pytest.mark.parametrize(
    "text",
    [
        "name: x\n",
        "steps: {}\n",
        "steps: {a: {}}\n",
        "steps: {a: {llm: hi, use: x.yaml}}\n",
        "steps: {a: {llm: hi, engin: ar}}\n",
        "steps: {a: {python: 'm:f', temperature: 1}}\n",
        "steps: {a: {llm: hi, with: {x: 1}}}\n",
        "steps: {a: {llm: hi, limit: 2}}\n",
        "steps: {a: {llm: 3}}\n",
        "steps: {a: {llm: hi, retries: -1}}\n",
        "steps: {a: {llm: hi, timeout: 3x}}\n",
        "steps: {a: {llm: hi, timeout: 0}}\n",
        "steps: {a: {llm: hi, when: 3}}\n",
        "steps: {a: {llm: hi, repeat: {until: x}}}\n",
        "steps: {a: {llm: hi, repair: never}}\n",
        "steps: {a: {llm: hi, returns: [str, int]}}\n",
        "steps: {a: {llm: hi, returns: {type: str, one_of: [a]}}}\n",
        "steps: {a: {llm: hi, returns: {type: str, patern: a}}}\n",
        "steps: {a: {llm: hi, returns: {outline: {deep: 2}}}}\n",
        "steps: {a: {llm: hi, returns: }}\n",
        "steps: {a-b: {llm: hi}}\n",
        "inputs: [text]\nsteps: {a: {llm: hi}}\n",
        "engines: {ar: {concurrency: 0}}\nsteps: {a: {llm: hi}}\n",
        "policy: {rules: [{kinds: [text]}]}\nsteps: {a: {llm: hi}}\n",
        "policy: {accept: {jsn: {overall: 1}}}\nsteps: {a: {llm: hi}}\n",
    ],
)
def test_a_wrong_shape_is_refused(text: str) -> None:
    assert errors(text) != []


PIPELINES = [path for path in sorted(ROOT.glob("examples/**/*.yaml")) if path.name != "policy.yaml"]


@pytest.mark.parametrize("path", PIPELINES, ids=lambda p: p.name)
def test_the_pipelines_of_the_examples_fit(path: Path) -> None:
    assert errors(path.read_text(encoding="utf-8")) == []


def test_the_command_prints_the_schema_and_writes_it_to_a_file(tmp_path: Path) -> None:
    printed = CliRunner().invoke(app, ["schema"])
    assert printed.exit_code == 0
    assert json.loads(printed.stdout) == pipeline_schema()
    path = tmp_path / "s.json"
    assert CliRunner().invoke(app, ["schema", "--output", str(path)]).exit_code == 0
    assert path.read_text(encoding="utf-8") == printed.stdout
