"""One walk over the syntax tree of a template: the outside names it uses, followed by their types.

The declared types go along (`recipe.groups`, a loop over it, a field of the loop variable), so that a misspelt
field is found before anything runs. A name counts as *asked* where the template asks whether there is something:
in an `if`, beside `or`, `and` and `not`, before `default`, in a comparison with none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from jinja2 import nodes
from pydantic import BaseModel

from carrara.workflows.yaml.kinds import MapOf, ObjectOf, Shape, Type
from carrara.workflows.yaml.mistakes import did_you_mean
from carrara.workflows.yaml.type_facts import Types, item_type, resolved

NAMESPACES: Final = ("inputs", "steps")


@dataclass(frozen=True, slots=True)
class Reference:
    """A use of an outside name. `space` is "inputs", "steps" or "" for the bare name."""

    name: str
    space: str = ""
    line: int = 1
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong; `word` stands in line `line` of the template. `hint` says what was meant, or ""."""

    message: str
    line: int = 1
    word: str = ""
    hint: str = ""


@dataclass(slots=True)
class Found:
    references: list[Reference] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    type: Type | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of names and types while a template is read.

    `type_of(space, name)` is the type of a name, None where it cannot be told.
    """

    type_of: Callable[[str, str], Type | None]
    declared: Types


Local = Mapping[str, Type | None]


class Walk:
    """One pass over a syntax tree. Local names (loop variables, `set`) map to their types."""

    def __init__(self, undeclared: set[str], known: Known) -> None:
        self.undeclared, self.known = undeclared, known
        self.found = Found()

    def visit(self, node: nodes.Node, local: Local) -> Local:
        """Walk a statement; returns the local names that hold after it."""
        match node:
            case nodes.For():
                inner = {**local, **_bound(node.target, self.item(node.iter, local)), "loop": None}
                for part in (node.test, *node.body):
                    inner = {**self.visit(part, inner)} if part is not None else inner
                self.visit_all(node.else_, local)
                return local
            case nodes.If():
                self.expression(node.test, local, asked=True)
                for branch in (node.body, node.elif_, node.else_):
                    self.visit_all(branch, local)
                return local
            case nodes.Assign():
                found = self.expression(node.node, local)
                return {**local, **_bound(node.target, found)}
            case nodes.AssignBlock():
                self.visit_all(node.body, local)
                return {**local, **_bound(node.target, None)}
            case nodes.Macro():
                inner = {**local, **{arg.name: None for arg in node.args}}
                self.visit_all([*node.defaults], local)
                self.visit_all(
                    node.body, {**inner, "caller": None, "varargs": None, "kwargs": None}
                )
                return {**local, node.name: None}
            case nodes.Include() | nodes.Import() | nodes.FromImport() | nodes.Extends():
                self.refuse("a template cannot take in other files", node.lineno)
                return local
            case nodes.Expr():
                self.expression(node, local)
                return local
        self.visit_all(list(node.iter_child_nodes()), local)
        return local

    def visit_all(self, found: list[Any], local: Local) -> None:
        for node in found:
            local = self.visit(node, local)

    def expression(self, node: nodes.Node, local: Local, asked: bool = False) -> Type | None:
        """Walk an expression and infer its type, None where it cannot be known."""
        match node:
            case nodes.Name(name=name):
                return local[name] if name in local else self.outside(node, name, asked)
            case nodes.Getattr(node=base, attr=attr):
                return self.member(node, base, attr, local, asked)
            case nodes.Getitem(node=base, arg=nodes.Const(value=str(attr))):
                return self.member(node, base, attr, local, asked)
            case nodes.Getitem(node=base, arg=nodes.Const(value=int())):
                return self.item(base, local)
            case nodes.Or() | nodes.And():
                left = self.expression(node.left, local, asked=True)
                right = self.expression(node.right, local, asked=True)
                return left if left == right else None
            case nodes.Not():
                self.expression(node.node, local, asked=True)
                return None
            case nodes.CondExpr():
                self.expression(node.test, local, asked=True)
                first = self.expression(node.expr1, local)
                second = self.expression(node.expr2, local) if node.expr2 is not None else first
                return first if first == second else None
            case nodes.Compare():
                against_none = any(_is_none(part.expr) for part in node.ops)
                self.expression(node.expr, local, asked=against_none)
                for part in node.ops:
                    self.expression(part.expr, local)
                return None
            case nodes.Filter(name="default" | "d") | nodes.Test():
                self.rest(node, local, asked=True)
                return None
            case nodes.Filter(name="first" | "last") if node.node is not None:
                return self.item(node.node, local)
        self.rest(node, local)
        return None

    def rest(self, node: nodes.Node, local: Local, asked: bool = False) -> None:
        for child in node.iter_child_nodes():
            self.expression(child, local, asked)

    def outside(self, node: nodes.Name, name: str, asked: bool) -> Type | None:
        if name not in self.undeclared:
            return None
        if name in NAMESPACES:
            hint = f". Write '{name}.NAME'"
            self.refuse(f"'{name}' alone is no value", node.lineno, name, hint)
            return None
        self.found.references.append(Reference(name, "", node.lineno, asked))
        return self.known.type_of("", name)

    def member(
        self, node: nodes.Node, base: nodes.Node, attr: str, local: Local, asked: bool
    ) -> Type | None:
        if isinstance(base, nodes.Name) and base.name in NAMESPACES and base.name not in local:
            self.found.references.append(Reference(attr, base.name, node.lineno, asked))
            return self.known.type_of(base.name, attr)
        holder = self.resolve(self.expression(base, local))
        match holder:
            case ObjectOf(fields) | Shape(fields):
                for found in fields:
                    if found.name == attr:
                        return found.type
                if not hasattr(BaseModel, attr):
                    self.refuse(*_no_field(base, attr, holder, node.lineno))
            case MapOf(item) if not hasattr(dict, attr):
                return item
        return None

    def item(self, node: nodes.Node, local: Local) -> Type | None:
        """The type of the items of what `node` gives."""
        return item_type(self.resolve(self.expression(node, local)))

    def resolve(self, kind: Type | None) -> Type | None:
        return resolved(kind, self.known.declared)

    def refuse(self, message: str, line: int, word: str = "", hint: str = "") -> None:
        self.found.problems.append(Problem(message, line, word, hint))


def _bound(target: nodes.Node, kind: Type | None) -> dict[str, Type | None]:
    if isinstance(target, nodes.Name):
        return {target.name: kind}
    return {name.name: None for name in target.find_all(nodes.Name)}


def _is_none(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Const) and node.value is None


def _no_field(
    base: nodes.Node, attr: str, holder: ObjectOf | Shape, line: int
) -> tuple[str, int, str, str]:
    name = _dotted(base)
    subject = f"'{name}' has no field" if name else "there is no field"
    hint = did_you_mean(attr, [found.name for found in holder.fields])
    return f"{subject} '{attr}'", line, attr, hint


def _dotted(node: nodes.Node) -> str:
    """`recipe.groups` as it is written, "" for anything else."""
    match node:
        case nodes.Name(name=name):
            return str(name)
        case nodes.Getattr(node=base, attr=attr) if _dotted(base):
            return f"{_dotted(base)}.{attr}"
        case _:
            return ""
