"""Loading pipelines: `load` gives one ready to run, `check` says what is wrong. Neither runs a user's code."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from carrara.engines.registry import kinds_by_name
from carrara.runtime.limits import EngineLimits
from carrara.runtime.routing.policy import Policy
from carrara.runtime.run import RunResult
from carrara.workflows.template import environment
from carrara.workflows.yaml.compile import PipelineWorkflow
from carrara.workflows.yaml.compose import parse
from carrara.workflows.yaml.definition import PipelineDef
from carrara.workflows.yaml.mistakes import Mistake, Mistakes
from carrara.workflows.yaml.models import models_of
from carrara.workflows.yaml.read import PipelineReader


class Pipeline:
    """A pipeline that was found right. What its steps name is imported when it runs."""

    def __init__(self, definition: PipelineDef) -> None:
        self.definition = definition

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def description(self) -> str:
        """ "" where the file has none."""
        return self.definition.description

    @property
    def source(self) -> Path:
        """The file, absolute."""
        return self.definition.path.resolve()

    @property
    def inputs(self) -> Mapping[str, Any]:
        """The annotation of each input."""
        models = models_of(self.definition)
        return {field.name: models.of(field.type, field.name) for field in self.definition.inputs}

    @property
    def outputs(self) -> Mapping[str, Any]:
        """The annotation of each output, Any where it cannot be told."""
        return self.workflow.outputs

    @property
    def limits(self) -> Mapping[str, EngineLimits]:
        """What may be asked of engines, by name."""
        return self.definition.engines

    @property
    def policy(self) -> Policy | None:
        """The routing policy that the pipeline brings along, None for none."""
        return self.definition.policy

    @cached_property
    def workflow(self) -> PipelineWorkflow:
        """The pipeline as a workflow, for `carrara.run` and as a step of other workflows.

        It imports what its steps name when it is first run.
        """
        return PipelineWorkflow(self.definition)

    async def run(self, /, **given: Any) -> RunResult[dict[str, Any]]:
        """`carrara.run` with these inputs and settings."""
        from carrara.workflows.run import run

        return await run(self.workflow, **given)

    def __repr__(self) -> str:
        return f"<pipeline {self.name} of {self.source}>"


def load(path: Path | str, *, engines: Collection[str] = ()) -> Pipeline:
    """The pipeline in a YAML file. `engines` are names that may be used beside the engines known here.

    Raises:
        PipelineError: it has mistakes; all of them are in it, each with file, line and column.
    """
    mistakes = Mistakes()
    definition = _reader(mistakes, engines).file(Path(path), _shown(Path(path)))
    mistakes.raise_any()
    assert definition is not None
    return Pipeline(definition)


def loads(
    text: str, *, path: Path | str = "pipeline.yaml", engines: Collection[str] = ()
) -> Pipeline:
    """The pipeline in a text. Relative paths in it start from the folder of `path`, its name in messages.

    Raises:
        PipelineError: it has mistakes.
    """
    mistakes = Mistakes()
    source = parse(text, str(path), mistakes)
    found = None if source is None else _reader(mistakes, engines).source(source, Path(path))
    mistakes.raise_any()
    assert found is not None
    return Pipeline(found)


def check(path: Path | str, *, engines: Collection[str] = ()) -> tuple[Mistake, ...]:
    """The mistakes in a YAML file and in those it uses, sorted by place; none for a good one."""
    mistakes = Mistakes()
    _reader(mistakes, engines).file(Path(path), _shown(Path(path)))
    return tuple(sorted(set(mistakes.found)))


def _reader(mistakes: Mistakes, engines: Collection[str]) -> PipelineReader:
    return PipelineReader(mistakes, environment(), (*kinds_by_name(), *engines))


def _shown(path: Path) -> str:
    """The path as short as it can be written from here."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive
        return str(path)
    return str(path) if relative.startswith("..") else relative
