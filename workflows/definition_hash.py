"""The hash of a whole workflow with the steps it calls: it tells rows of an earlier definition.

Of a pipeline it takes the file without what cannot change a result (descriptions, limits, retries), of a workflow in
Python the function and the steps and workflows that it uses, also through other functions and methods of its project.
What is not noticed by the fingerprint of a step (libraries, files, the network) is not noticed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any

from carrara.runtime.identity import text_hash
from carrara.runtime.uses import is_own, members, module_of, uses
from carrara.workflows.calls import Definition
from carrara.workflows.errors import DefinitionError

if TYPE_CHECKING:
    from carrara.workflows.yaml.definition import PipelineDef, StepDef


def definition_hash(workflow: Definition[..., Any]) -> str:
    """32 hex digits; the same as long as the workflow is defined the same, whatever process.

    Raises:
        DefinitionError: a function that a pipeline names cannot be imported.
    """
    return text_hash("\0".join(_parts(workflow, set())))


def _parts(definition: Definition[..., Any], seen: set[int]) -> Iterator[str]:
    if id(definition) in seen:
        return
    seen.add(id(definition))
    yield definition.spec.fingerprint
    pipeline = getattr(definition, "pipeline", None)
    if pipeline is not None:
        yield _text_of(pipeline)
    for part in _inside(definition):
        yield from _parts(part, seen)


def definitions_in(workflow: Definition[..., Any]) -> list[Definition[..., Any]]:
    """The workflow, and the steps and workflows that it uses, each once."""
    found = {id(workflow): workflow}
    todo = [workflow]
    while todo:
        for part in _inside(todo.pop()):
            if id(part) not in found:
                found[id(part)] = part
                todo.append(part)
    return list(found.values())


def hash_steps(workflow: Definition[..., Any]) -> None:
    """Make the fingerprints of the workflow and of all that it uses, before a step can change what the objects of the
    project hold. A definition that is wrong tells so where it is used."""
    for definition in definitions_in(workflow):
        with suppress(DefinitionError):
            _ = definition.spec


def _inside(definition: Definition[..., Any]) -> Iterable[Definition[..., Any]]:
    """What it names itself."""
    if getattr(definition, "pipeline", None) is not None:
        steps: Mapping[str, Definition[..., Any]] = getattr(definition, "steps", {})
        return steps.values()
    return _named_in(getattr(definition, "function", None))


def _named_in(function: Any) -> Iterator[Definition[..., Any]]:
    """The definitions that a function uses, also through the other functions and the classes of its project."""
    home = module_of(function)
    seen: set[int] = set()
    todo = [function]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Definition):
            yield one
        elif isinstance(one, partial):
            todo += [one.func, *one.args, *one.keywords.values()]
        elif isinstance(one, dict):
            todo += one.values()
        elif isinstance(one, list | tuple):
            todo += one
        elif isinstance(one, FunctionType) and is_own(module_of(one), home):
            todo += [value for _, value in uses(one)]
        elif isinstance(one, type):
            if is_own(module_of(one), home):
                todo += [*one.__bases__, *(value for _, value in members(one))]
        elif is_own(module_of(type(one)), home):
            todo.append(type(one))


def _text_of(pipeline: PipelineDef) -> str:
    from carrara.workflows.yaml.dump import dumps

    steps = tuple(map(_bare, pipeline.steps))
    return dumps(
        replace(pipeline, description="", engines={}, policy=None, score=None, steps=steps)
    )


def _bare(step: StepDef) -> StepDef:
    return replace(
        step,
        description="",
        retries=None,
        timeout_s=None,
        concurrency=None,
        cache=None,
        inline=None,
        isolated=None,
    )
