"""Code as text that is the same in every process: of a function or class its syntax tree, else its byte code.

Comments and layout are no part of it, nor are the decorators that define steps, under whatever name: their options are
not part of the result.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import lru_cache, partial
from types import CodeType, FunctionType
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet

_USUAL_NAMES = frozenset({"step", "llm", "workflow"})

D = TypeVar("D", bound=Callable[..., Any])

_defining: WeakSet[Callable[..., Any]] = WeakSet()


def defines_steps(decorator: D) -> D:
    """Let a decorator, or what gives one when it is called with options, count as one that defines steps."""
    _defining.add(decorator)
    return decorator


def function_text(function: Callable[..., Any]) -> str:
    """The syntax tree of a function, "" where there is no source (a console, exec) or none of its own (a lambda: the
    statement around it says more than the function)."""
    code: CodeType = function.__code__
    found = _found_in_file(code, code.co_filename)  # equal code may stand in two files
    return _text(found, function.__globals__)


def class_text(kind: type) -> str:
    """The syntax tree of a class, of all that have its name where there are several, "" where there is none."""
    found = _classes.get(kind)
    if found is None:
        _classes[kind] = found = _class_text(kind)
    return found


_classes: WeakKeyDictionary[type, str] = WeakKeyDictionary()


def code_text(code: CodeType) -> str:
    """A code object as text, for want of source. Changes with the Python version."""
    return "\n".join(
        (code.co_code.hex(), *map(_const_text, code.co_consts), *code.co_names, *code.co_varnames)
    )


def _const_text(const: Any) -> str:
    if isinstance(const, CodeType):
        return code_text(const)
    if isinstance(const, frozenset):
        return f"{{{', '.join(sorted(map(_const_text, const)))}}}"
    if isinstance(const, tuple):
        return f"({', '.join(map(_const_text, const))})"
    return repr(const)


@lru_cache(maxsize=4096)
def _found_in_file(code: CodeType, file: str) -> Sequence[_Definition]:
    try:
        lines, _ = inspect.findsource(code)
    except (OSError, TypeError):
        return ()
    definitions = _definitions("".join(lines))
    if definitions is None:
        return _found_in_block(code)
    return definitions.get((code.co_firstlineno, code.co_name), ())


def _class_text(kind: type) -> str:
    try:
        file = inspect.getsourcefile(kind)
    except (OSError, TypeError):
        return ""
    if file is None:
        return ""
    linecache.checkcache(file)
    scope = vars(sys.modules[kind.__module__])
    lines = linecache.getlines(file, scope)
    definitions = _definitions("".join(lines))
    if definitions is None:
        return _text(_found_in_block(kind), scope)
    return _text(definitions.get((0, kind.__qualname__), ()), scope)


_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@lru_cache(maxsize=64)
def _definitions(source: str) -> dict[tuple[int, str], list[_Definition]] | None:
    """The functions of a file by their first line and name, and its classes by 0 and their qualified name; None where
    it is no Python as it stands, such as a cell of a notebook. To parse a file once takes a tenth of what it takes to
    have `inspect` find each of twenty classes."""
    try:
        todo: list[tuple[str, ast.AST]] = [("", ast.parse(source))]
    except (SyntaxError, ValueError):
        return None
    found: dict[tuple[int, str], list[_Definition]] = {}
    while todo:
        prefix, node = todo.pop()
        inner = prefix
        if isinstance(node, _Definition):
            inner = f"{prefix}{node.name}."
            key = (0, f"{prefix}{node.name}")
            if not isinstance(node, ast.ClassDef):
                inner = f"{inner}<locals>."
                key = (min(each.lineno for each in (node, *node.decorator_list)), node.name)
            found.setdefault(key, []).append(node)
        todo += [(inner, child) for child in reversed(list(ast.iter_child_nodes(node)))]
    return found


def _found_in_block(thing: Any) -> Sequence[_Definition]:
    """What stands in the lines that `inspect` takes for a definition."""
    try:
        first = ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]
    except (OSError, TypeError, SyntaxError):
        return ()
    return (first,) if isinstance(first, _Definition) else ()


def _text(definitions: Sequence[_Definition], scope: Mapping[str, Any]) -> str:
    """`scope` are the names of the module."""
    return "\n".join(
        _dump(each, tuple(_defines_step(decorator, scope) for decorator in each.decorator_list))
        for each in definitions
    )


@lru_cache(maxsize=4096)
def _dump(definition: _Definition, left_out: tuple[bool, ...]) -> str:
    """The definition without some of its decorators."""
    bare = copy(definition)
    each = zip(definition.decorator_list, left_out, strict=True)
    bare.decorator_list = [decorator for decorator, is_out in each if not is_out]
    return ast.dump(bare)


def _defines_step(decorator: ast.expr, scope: Mapping[str, Any]) -> bool:
    """Whether it is one by what its name stands for; by the name itself where that is known within a function only."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    names: list[str] = []
    while isinstance(called, ast.Attribute):
        names.insert(0, called.attr)
        called = called.value
    if not isinstance(called, ast.Name):
        return False
    if called.id not in scope:
        return (names or [called.id])[-1] in _USUAL_NAMES
    value = scope[called.id]
    for name in names:
        value = inspect.getattr_static(value, name, None)  # no code of the project runs
    while type(value) is partial:
        value = value.func
    return isinstance(value, FunctionType) and value in _defining
