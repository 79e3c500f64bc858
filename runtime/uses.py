"""What functions and classes use of their own project: the values behind the names in code and annotations.

A project is what lies in one folder: the modules and packages beside the function's own. Libraries are none, and
Carrara is none.
"""

from __future__ import annotations

import ast
import dis
import inspect
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import (
    cache,
    cached_property,
    lru_cache,
    partial,
    partialmethod,
    singledispatchmethod,
)
from types import CodeType, FunctionType, ModuleType
from typing import Annotated, Any, ForwardRef, Literal, get_args, get_origin


def uses(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """Names and values: what the function closes over, its globals, and, as "module.name", what it may take from
    the modules of its project. An attribute counts for each of the modules that the function names and that
    has it."""
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not filled yet: a function that names itself
            continue
    yield from _found(*_names(code), function.__globals__, module_of(function))


def annotated(thing: Any) -> Iterator[tuple[str, Any]]:
    """Names and annotations of a function or class, and for annotations that are texts the values behind the names in
    these. Nothing is evaluated."""
    try:
        annotations = inspect.get_annotations(thing)
    except NameError:  # Python 3.14 evaluates them now, and one names what only a type checker sees
        return
    home = module_of(thing)
    scope = thing.__globals__ if isinstance(thing, FunctionType) else _scope_of(home)
    for name, annotation in sorted(annotations.items()):
        yield name, annotation
        for text in _texts(annotation):
            yield from _found(*_names_in_text(text), scope, home)


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """What a class itself defines, by name: its methods as functions with their decorators around them, those of a
    property and of a partial, too; and what it holds beside them under names of its own. Some may be of libraries, or
    generated."""
    for name, value in sorted(vars(kind).items()):
        for inner in _behind(value):
            if callable(inner) or not (name.startswith("_") and name.endswith("_")):
                yield name, inner


def _behind(member: Any) -> Iterable[Any]:
    """The functions behind what a class has for a method; anything else is itself."""
    match member:
        case staticmethod() | classmethod():
            return _behind(member.__func__)
        case property():
            return [each for each in (member.fget, member.fset, member.fdel) if each is not None]
        case cached_property():
            return (member.func,)
        case partialmethod():
            return (partial(member.func, *member.args, **member.keywords),)
        case singledispatchmethod():
            return (member.func, member.dispatcher)
    return (member,)


def module_of(thing: Any) -> str:
    """The module in which a function or class is written. (`functools.wraps` gives a wrapper the `__module__` of what
    it wraps.)"""
    if isinstance(thing, FunctionType) and "__name__" in thing.__globals__:
        return str(thing.__globals__["__name__"])
    return str(getattr(thing, "__module__", ""))


def is_own(module: str, home: str) -> bool:
    """Whether a module is of the project of module `home`. Where that is of none (a console, a notebook, a library's
    function around one of a project), all that is of any project is its own."""
    folder = _folder(module)
    return module == home or (bool(folder) and _folder(home) in ("", folder))


def _found(
    names: Sequence[str], attributes: Sequence[str], scope: Mapping[str, Any], home: str
) -> Iterator[tuple[str, Any]]:
    """The values behind names of a module, and behind the attributes of the modules among them."""
    for name in names:
        if name in scope:
            value = scope[name]
            yield name, value
            if isinstance(value, ModuleType):
                yield from _of_module(name, value, attributes, home, set())


def _of_module(
    prefix: str, module: ModuleType, attributes: Sequence[str], home: str, seen: set[int]
) -> Iterator[tuple[str, Any]]:
    if id(module) in seen or not is_own(module.__name__, home):
        return
    seen.add(id(module))
    for attribute in attributes:
        if attribute in vars(module):
            value, name = vars(module)[attribute], f"{prefix}.{attribute}"
            if isinstance(value, ModuleType):
                yield from _of_module(name, value, attributes, home, seen)
            else:
                yield name, value


def _folder(module: str) -> str:
    """The folder in which the module's project lies, "" for a library or where there is no file."""
    top = module.partition(".")[0]
    found = sys.modules.get(top)
    if found is None or top == "carrara":
        return ""
    own = vars(found)  # a module's __getattr__ may give anything
    paths = own.get("__path__")
    place = next(iter(paths), None) if paths is not None else own.get("__file__")
    folder = os.path.dirname(os.path.abspath(place)) if place else ""
    return (
        "" if folder.startswith(_libraries()) or _INSTALLED & set(folder.split(os.sep)) else folder
    )


_INSTALLED = {"site-packages", "dist-packages"}


@cache
def _libraries() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def _scope_of(module: str) -> Mapping[str, Any]:
    found = sys.modules.get(module)
    return {} if found is None else vars(found)


def _texts(annotation: Any) -> Iterator[str]:
    """The texts in an annotation that stand for types."""
    if isinstance(annotation, str):
        yield annotation
    elif isinstance(annotation, ForwardRef):
        yield annotation.__forward_arg__
    elif isinstance(annotation, list):  # the arguments of a Callable
        for part in annotation:
            yield from _texts(part)
    elif get_origin(annotation) is not Literal:
        parts = get_args(annotation)
        for part in parts[:1] if get_origin(annotation) is Annotated else parts:
            yield from _texts(part)


@lru_cache(maxsize=4096)
def _names_in_text(text: str) -> tuple[list[str], list[str]]:
    """The names and attributes in an annotation that is a text, sorted."""
    try:
        found = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except SyntaxError:
        return [], []
    names = {node.id for node in found if isinstance(node, ast.Name)}
    inner = {n.value for n in found if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    names |= {text for text in inner if text.isidentifier()}  # list["Item"], all of it a text
    return sorted(names), sorted({node.attr for node in found if isinstance(node, ast.Attribute)})


@lru_cache(maxsize=4096)
def _names(code: CodeType) -> tuple[list[str], list[str]]:
    """The names of globals and of attributes in the code and the functions in it, sorted."""
    names: set[str] = set()
    attributes: set[str] = set()
    todo = [code]
    while todo:
        one = todo.pop()
        for step in dis.get_instructions(one):
            if step.opname in {"LOAD_GLOBAL", "LOAD_NAME"}:
                names.add(step.argval)
            elif step.opname in {"LOAD_ATTR", "LOAD_METHOD"}:
                attributes.add(step.argval)
        todo += [const for const in one.co_consts if isinstance(const, CodeType)]
    return sorted(names), sorted(attributes)
