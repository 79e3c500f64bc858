"""What a template or an expression refers to: every name that it takes from outside. Edges come from here."""

from __future__ import annotations

from jinja2 import Environment, TemplateSyntaxError, meta, nodes

from carrara.workflows.template import take_unknown_functions
from carrara.workflows.yaml.walk import Found, Known, Problem, Walk


def of_template(text: str, environment: Environment, known: Known) -> Found:
    """The references of a template and what is wrong in it: one problem if it does not parse."""
    tree, problems = _parsed(text, environment, "template")
    if tree is None:
        return Found(problems=problems)
    walk = Walk(meta.find_undeclared_variables(tree), known)
    walk.found.problems += problems
    walk.visit(tree, {})
    return walk.found


def of_expression(
    text: str, environment: Environment, known: Known, *, asked: bool = False
) -> Found:
    """The references of an expression without braces, and the type it gives where that can be told.

    `asked`: the expression is a condition.
    """
    tree, problems = _parsed("{{ " + text + "\n}}", environment, "expression")
    if tree is None:
        return Found(problems=problems)
    expression = sole_expression(tree)
    if expression is None:
        return Found(problems=[Problem("bad expression: it is not one whole expression")])
    walk = Walk(meta.find_undeclared_variables(tree), known)
    walk.found.problems += problems
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
) -> tuple[nodes.Template | None, list[Problem]]:
    """The syntax tree of `text`, None if it has none, and what is wrong: also filters and tests that do not exist."""
    try:
        tree = environment.parse(text)
        problems = [
            Problem(f"bad {what}: no {kind} named '{name}'", line, name, _hint(meant))
            for kind, name, line, meant in take_unknown_functions(tree)
        ]
        # Compiling says what parsing does not, and changes its tree.
        again = environment.parse(text)
        take_unknown_functions(again)
        environment.compile(again, raw=True)
    except TemplateSyntaxError as error:
        message = _lower(error.message or "it cannot be read").rstrip(".")
        return None, [Problem(f"bad {what}: {message}", error.lineno)]
    return tree, problems


def _hint(meant: str | None) -> str:
    return f". Did you mean '{meant}'?" if meant else ""


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
