"""Fixtures: pipelines from text, their mistakes, and an engine that gives a right answer to any contract."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from carrara.engines.contract import Choice, Contract, Json, Outline, Regex, Table
from carrara.engines.request import Request
from carrara.engines.scripted import Script, ScriptedEngine
from carrara.runtime.run import RunResult
from carrara.workflows.run import run_sync
from carrara.workflows.yaml import Pipeline, PipelineError, load

Mistakes = Callable[..., list[str]]
Load = Callable[..., Pipeline]
Run = Callable[..., RunResult[Any]]


@pytest.fixture
def load_text(tmp_path: Path) -> Load:
    """A pipeline from text; other files that it needs are given by name."""

    def made(text: str, files: Mapping[str, str] | None = None, name: str = "p.yaml") -> Pipeline:
        for other, content in {**(files or {}), name: text}.items():
            (tmp_path / other).write_text(dedent(content), encoding="utf-8")
        return load(tmp_path / name)

    return made


@pytest.fixture
def mistakes_in(load_text: Load, tmp_path: Path) -> Mistakes:
    """The mistakes of a text, one line each, with the folder left out."""

    def found(text: str, files: Mapping[str, str] | None = None) -> list[str]:
        try:
            load_text(text, files)
        except PipelineError as error:
            return [str(mistake).replace(f"{tmp_path}/", "") for mistake in error.mistakes]
        return []

    return found


@pytest.fixture
def run_text(load_text: Load) -> Run:
    """The result of a pipeline from text. `reply` answers prompts, by default with any right answer."""

    def made(
        text: str,
        files: Mapping[str, str] | None = None,
        reply: Script | None = None,
        settings: Mapping[str, Any] | None = None,
        **inputs: Any,
    ) -> RunResult[Any]:
        pipeline = load_text(text, files)
        engine = ScriptedEngine("ar", reply or any_answer)
        given: dict[str, Any] = {"engines": {"ar": engine}, **(settings or {})}
        return run_sync(pipeline.workflow, inputs=inputs, **given)

    return made


def any_answer(request: Request) -> str:
    """A text that holds to the request's contract."""
    return answer_to(request.output)


@pytest.fixture(name="any_answer")
def _any_answer() -> Callable[[Request], str]:
    return any_answer


def answer_to(contract: Contract) -> str:
    match contract:
        case Choice(options):
            return options[0]
        case Json():
            return json.dumps(_instance(contract.schema, contract.schema))
        case Table(columns):
            row = ["2026-01-31" if c.kind == "date" else "1" for c in columns]
            if any(c.kind == "boolean" for c in columns):
                row = [
                    "yes" if c.kind == "boolean" else cell
                    for c, cell in zip(columns, row, strict=True)
                ]
            lines = [[c.name for c in columns], ["---"] * len(columns), row]
            return "\n".join("| " + " | ".join(line) + " |" for line in lines)
        case Outline():
            return "- first\n- second"
        case Regex():
            return "AB-123"
        case _:
            return "a text"


def _instance(schema: Any, root: Any) -> Any:
    """The smallest value of a JSON Schema as pydantic writes them."""
    if "$ref" in schema:
        return _instance(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    if "anyOf" in schema:
        nullable = {"type": "null"} in schema["anyOf"]
        return None if nullable else _instance(schema["anyOf"][0], root)
    if "enum" in schema or "const" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            return {name: _instance(fields[name], root) for name in schema.get("required", ())}
        case "array":
            return [_instance(schema.get("items", {}), root)] * max(1, schema.get("minItems", 0))
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "string":
            formats = {"date": "2026-01-31", "date-time": "2026-01-31T12:00:00"}
            return formats.get(schema.get("format", ""), "x" * schema.get("minLength", 1))
        case _:
            return None
