"""What a function uses of its own project: the values behind the names in its code.

A project is what lies in one folder: the modules and packages beside the function's own. Libraries are none, and
Carrara is none.
"""

from __future__ import annotations

import dis
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import (
    cache,
    cached_property,
    lru_cache,
    partial,
    partialmethod,
    singledispatchmethod,
)
from types import CodeType, ModuleType
from typing import Any


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
    names, attributes = _names(code)
    home = module_of(function)
    for name in names:
        if name in function.__globals__:
            value = function.__globals__[name]
            yield name, value
            if isinstance(value, ModuleType):
                yield from _of_module(name, value, attributes, home, set())


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
            return (member.__func__,)
        case property():
            return [each for each in (member.fget, member.fset, member.fdel) if each is not None]
        case cached_property():
            return (member.func,)
        case partialmethod():
            return (partial(member.func, *member.args, **member.keywords),)
        case singledispatchmethod():
            return (member.func, *member.dispatcher.registry.values())
    return (member,)


def module_of(thing: Any) -> str:
    return str(getattr(thing, "__module__", ""))


def is_own(module: str, home: str) -> bool:
    """Whether a module is of the project of module `home`."""
    return module == home or (bool(found := _folder(home)) and found == _folder(module))


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
    paths = getattr(found, "__path__", None)
    place = next(iter(paths), None) if paths is not None else getattr(found, "__file__", None)
    folder = os.path.dirname(os.path.abspath(place)) if place else ""
    return (
        "" if folder.startswith(_libraries()) or _INSTALLED & set(folder.split(os.sep)) else folder
    )


_INSTALLED = {"site-packages", "dist-packages"}


@cache
def _libraries() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))


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
