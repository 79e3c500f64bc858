"""Every example of docs/yaml.md loads, fits the schema for editors, and runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

from carrara.engines.scripted import ScriptedEngine
from carrara.workflows.run import run_sync
from carrara.workflows.samples import sample
from carrara.workflows.yaml import load
from carrara.workflows.yaml.document import PipelineDoc, StepDoc, TypeDoc
from carrara.workflows.yaml.schema import pipeline_schema

PAGE = Path(__file__).parents[3] / "docs" / "yaml.md"


def blocks() -> Iterator[tuple[str, str]]:
    """(file name, content) of the page's YAML and Python blocks that are files."""
    text = PAGE.read_text(encoding="utf-8")
    for number, (language, body) in enumerate(
        re.findall(r"```(yaml|python)\n(.*?)```", text, re.DOTALL)
    ):
        named = re.match(r"# (?:file: )?(\w+\.(?:py|yaml))\n", body)
        if named or language == "yaml":
            yield named[1] if named else f"example{number}.yaml", body


FILES = dict(blocks())
PIPELINES = [name for name in FILES if name.endswith(".yaml")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, body in FILES.items():
        (tmp_path / name).write_text(body, encoding="utf-8")
    return tmp_path


def test_the_page_has_examples() -> None:
    assert len(PIPELINES) > 10


@pytest.mark.parametrize("name", PIPELINES)
def test_an_example_of_the_page_runs(name: str, folder: Path, any_answer: Any) -> None:
    pipeline = load(folder / name)
    inputs = {key: sample(annotation) for key, annotation in pipeline.inputs.items()}
    engines = {engine: ScriptedEngine(engine, any_answer) for engine in ("ar", "diffusion")}
    result = run_sync(pipeline.workflow, inputs=inputs, engines=engines)
    assert set(result.value) == set(pipeline.outputs)


@pytest.mark.parametrize("name", PIPELINES)
def test_an_example_of_the_page_fits_the_schema(name: str) -> None:
    data = YAML(typ="safe", pure=True).load(FILES[name])
    assert list(Draft7Validator(pipeline_schema()).iter_errors(data)) == []


@pytest.mark.parametrize("model", [PipelineDoc, StepDoc, TypeDoc])
def test_every_key_is_on_the_page(model: Any) -> None:
    text = PAGE.read_text(encoding="utf-8")
    keys = [field.alias or name for name, field in model.model_fields.items()]
    assert [key for key in keys if f"`{key}`" not in text] == []
