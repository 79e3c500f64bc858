"""Working out the values of a pipeline while it runs, in the sandbox that all templates share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from carrara.workflows.errors import RenderError
from carrara.workflows.template import environment
from carrara.workflows.yaml.definition import (
    Constant,
    Entries,
    Expression,
    Many,
    Name,
    Template,
    Value,
)


def evaluate(value: Value, scope: Mapping[str, Any]) -> Any:
    """What `value` is, with the names of `scope`. An expression gives the value itself, a template text.

    Raises:
        RenderError: an attribute that is not there, a forbidden access, an error in an expression.
    """
    match value:
        case Constant(found):
            return found
        case Expression(text):
            return _run(f"'{text}'", lambda: _expression(text)(scope))
        case Template(text):
            return _run("the template", lambda: _template(text).render(scope))
        case Many(items):
            return [evaluate(item, scope) for item in items]
        case Entries(items):
            return {name: evaluate(item, scope) for name, item in items.items()}


def pick(scope: Mapping[str, Any], names: Iterable[Name]) -> dict[str, Any]:
    """The part of `scope` that holds these names; spaces are mappings of theirs."""
    found: dict[str, Any] = {}
    for space, name in sorted(names):
        if space:
            found.setdefault(space, {})[name] = scope[space][name]
        else:
            found[name] = scope[name]
    return found


def _run(what: str, work: Callable[[], Any]) -> Any:
    from jinja2 import Undefined

    try:
        found = work()
        if isinstance(found, Undefined):
            str(found)  # raises, and says what is not defined
        return found
    except Exception as error:  # expressions call methods of users' values: anything may come out
        raise RenderError(f"{what}: {type(error).__name__}: {error}") from error


@lru_cache(maxsize=1024)
def _expression(text: str) -> Any:
    return environment().compile_expression(text, undefined_to_none=False)


@lru_cache(maxsize=256)
def _template(text: str) -> Any:
    return environment().from_string(text)
