"""Working out the values of a pipeline while it runs, in the sandbox that all templates share."""

from __future__ import annotations

import re
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

    What is direct only puts things in their places: handles in the scope stay handles.

    Raises:
        RenderError: an attribute that is not there, a forbidden access, an error in an expression.
    """
    match value:
        case Constant(found):
            return found
        case Expression(text, names) if (name := _reference(text)) in names:
            return scope[name[0]][name[1]] if name[0] else scope[name[1]]
        case Expression(text):
            return _run(f"'{text}'", lambda: _expression(text)(scope))
        case Template(text):
            return _run("the template", lambda: _template(text).render(scope))
        case Many(items):
            return [evaluate(item, scope) for item in items]
        case Entries(items):
            return {name: evaluate(item, scope) for name, item in items.items()}


def is_direct(value: Value) -> bool:
    """Whether `value` is made of constants and names alone, so that nothing has to be worked out."""
    match value:
        case Constant():
            return True
        case Expression(text, names):
            return _reference(text) in names
        case Many(items):
            return all(map(is_direct, items))
        case Entries(entries):
            return all(map(is_direct, entries.values()))
        case _:
            return False


@lru_cache(maxsize=1024)
def _reference(text: str) -> Name:
    """The name that an expression is, ("", "") if it is more than a name."""
    match = re.fullmatch(r"(?:(inputs|steps)\s*\.\s*)?([A-Za-z_]\w*)", text.strip())
    return (match[1] or "", match[2]) if match else ("", "")


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
