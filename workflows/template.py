"""Prompt templates: Jinja in an immutable sandbox where every unknown name is an error.

Values are shown by `as_text`: texts as they are, tables and outlines as Markdown, everything else as JSON.
`{{ recipe.items }}` takes the key "items" of a dict before a method of that name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from carrara.workflows.errors import RenderError, did_you_mean
from carrara.workflows.plain import as_text

if TYPE_CHECKING:
    from jinja2 import Environment
    from jinja2 import Template as Compiled


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a template. `line` counts from 1 within it."""

    line: int
    text: str
    hint: str | None = None


@cache
def environment() -> Environment:
    """The sandbox that all templates and expressions share."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        def getattr(self, obj: Any, attribute: str) -> Any:
            if isinstance(obj, Mapping) and attribute in obj:
                return obj[attribute]
            return super().getattr(obj, attribute)

    made = Sandbox(undefined=StrictUndefined, finalize=_shown, trim_blocks=True, lstrip_blocks=True)
    made.filters["json"] = made.filters["tojson"] = _json  # Jinja's own escapes for HTML
    made.filters["parts"] = _parts
    del made.globals["lipsum"]
    return made


class Template:
    """A prompt template, compiled at its first use."""

    __slots__ = ("_compiled", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self._compiled: Compiled | None = None

    def render(self, values: Mapping[str, Any]) -> str:
        """The text with `values` filled in, white space at both ends taken off.

        Raises:
            RenderError: an attribute that is not there, a forbidden access, an error in an expression.
        """
        if self._compiled is None:
            self._compiled = environment().from_string(self.source)
        try:
            return self._compiled.render(values).strip()
        except Exception as error:  # templates call methods of users' values: anything may come out
            line = _line_of(error)
            where = f"line {line} of the prompt" if line else "the prompt"
            raise RenderError(f"{where}: {type(error).__name__}: {error}") from error


def problems(source: str, names: Collection[str]) -> list[Problem]:
    """What is wrong with a template that is given `names`: its syntax, filters and tests that do not exist,
    names that it is not given. In order of lines, [] for a good one."""
    from jinja2 import TemplateSyntaxError, nodes

    try:
        tree = environment().parse(source)
        found = [
            Problem(line, f"there is no {kind} {name!r}", hint)
            for kind, name, line, hint in take_unknown_functions(tree)
        ]
        missing = _undeclared(tree) - set(names)
    except TemplateSyntaxError as error:
        return [Problem(error.lineno, f"template: {error.message}")]
    for name in missing:
        used = [node.lineno for node in tree.find_all(nodes.Name) if node.name == name]
        text = f"the template uses {name!r}, which is not given"
        found += [Problem(line, text, did_you_mean(name, names)) for line in sorted(set(used))]
    return sorted(found, key=lambda problem: problem.line)


def variables(source: str) -> frozenset[str]:
    """The names that a template without syntax errors must be given."""
    return frozenset(_undeclared(environment().parse(source)))


def _undeclared(tree: Any) -> set[str]:
    from jinja2 import meta

    return meta.find_undeclared_variables(tree) - set(environment().globals)


def take_unknown_functions(tree: Any) -> list[tuple[str, str, int, str | None]]:
    """Filters and tests that do not exist: "filter" or "test", the name, its line, what was meant. They are replaced
    in `tree`, so that the rest can be looked at."""
    from jinja2 import nodes

    made, found = environment(), []
    for kind, known, other in (
        (nodes.Filter, made.filters, "string"),
        (nodes.Test, made.tests, "defined"),
    ):
        for node in list(tree.find_all(kind)):
            if node.name not in known:
                hint = did_you_mean(node.name, known)
                found.append((kind.__name__.lower(), node.name, node.lineno, hint))
                node.name = other
    return found


def _shown(value: Any) -> Any:
    """A value between braces; Jinja's own undefined values raise when they are turned into text."""
    from jinja2 import Undefined

    return value if type(value) is str or isinstance(value, Undefined) else as_text(value)


def _json(value: Any, indent: int | None = None) -> str:
    import json

    from carrara.workflows.plain import plain

    return json.dumps(plain(value), ensure_ascii=False, indent=indent)


def _parts(text: str, tokens: int, overlap: int = 0) -> list[dict[str, Any]]:
    """The parts of a long text, each with `text`, `start`, `end` and `headings`; see `chunks.split`."""
    from carrara.workflows.chunks.split import split

    return [
        {"text": part.text, "start": part.start, "end": part.end, "headings": list(part.headings)}
        for part in split(text, tokens, overlap=overlap)
    ]


def _line_of(error: Exception) -> int | None:
    """The line of the template in which it failed; Jinja rewrites tracebacks to point there."""
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
