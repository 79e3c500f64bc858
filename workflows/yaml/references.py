"""What a template or an expression refers to: every name that it takes from outside. Edges come from here."""

from __future__ import annotations

import re

from jinja2 import Environment, TemplateSyntaxError, meta, nodes

from carrara.workflows.yaml.mistakes import did_you_mean
from carrara.workflows.yaml.walk import Found, Known, Problem, Walk


def of_template(text: str, environment: Environment, known: Known) -> Found:
    """The references of a template, or one problem if it does not parse."""
    tree, problem = _parsed(text, environment, "template")
    if tree is None:
        return Found(problems=[problem])
    walk = Walk(meta.find_undeclared_variables(tree), known)
    walk.visit(tree, {})
    return walk.found


def of_expression(
    text: str, environment: Environment, known: Known, *, asked: bool = False
) -> Found:
    """The references of an expression without braces, and the type it gives where that can be told.

    `asked`: the expression is a condition.
    """
    tree, problem = _parsed("{{ " + text + "\n}}", environment, "expression")
    if tree is None:
        return Found(problems=[problem])
    expression = sole_expression(tree)
    if expression is None:
        return Found(problems=[Problem("bad expression: it is not one whole expression")])
    walk = Walk(meta.find_undeclared_variables(tree), known)
    walk.found.type = walk.expression(expression, {}, asked)
    return walk.found


def inner_expression(text: str, environment: Environment) -> str | None:
    """What stands between the braces of a text that is one `{{ … }}` and nothing else, None for others."""
    stripped = text.strip()
    if not (stripped.startswith("{{") and stripped.endswith("}}")):
        return None
    try:
        tree = environment.parse(stripped)
    except TemplateSyntaxError:
        return None
    if sole_expression(tree) is None:
        return None
    return stripped[2:-2].removeprefix("-").removeprefix("+").removesuffix("-").strip()


def _parsed(
    text: str, environment: Environment, what: str
) -> tuple[nodes.Template | None, Problem]:
    """The syntax tree of `text`; compiling it as well finds unknown filters and tests."""
    try:
        tree = environment.parse(text)
        environment.compile(environment.parse(text), raw=True)
    except TemplateSyntaxError as error:
        message = error.message or "it cannot be read"
        word, hint = _unknown_function(message, environment)
        message = _lower(message).rstrip(".")
        return None, Problem(f"bad {what}: {message}", error.lineno, word, hint)
    return tree, Problem("")


def _unknown_function(message: str, environment: Environment) -> tuple[str, str]:
    """The filter or test that an error of Jinja is about, and what was meant; "" and "" for other errors."""
    match = re.match(r"No (filter|test) named '(\w+)'", message)
    if match is None:
        return "", ""
    known = environment.filters if match[1] == "filter" else environment.tests
    return match[2], did_you_mean(match[2], known)


def sole_expression(tree: nodes.Template) -> nodes.Expr | None:
    """The expression of a template that is one `{{ … }}` and nothing else."""
    if len(tree.body) != 1 or not isinstance(tree.body[0], nodes.Output):
        return None
    parts = tree.body[0].nodes
    if len(parts) != 1 or isinstance(parts[0], nodes.TemplateData):
        return None
    return parts[0]


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
