"""Code as text that is the same in every process: of a function or class its syntax tree, else its byte code.

Comments and layout are no part of it, nor are the decorators that define steps: their options are not part of the
result.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
import textwrap
from collections.abc import Callable
from copy import copy
from functools import lru_cache
from types import CodeType
from typing import Any
from weakref import WeakKeyDictionary

STEP_DECORATORS = frozenset({"step", "llm", "workflow"})


def function_text(function: Callable[..., Any]) -> str:
    """The syntax tree of a function, "" where there is no source (a console, exec) or none of its own (a lambda: the
    statement around it says more than the function)."""
    code: CodeType = function.__code__
    return _text_in_file(code, code.co_filename)  # equal code may stand in two files


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
def _text_in_file(code: CodeType, file: str) -> str:
    try:
        lines, _ = inspect.findsource(code)
    except (OSError, TypeError):
        return ""
    definitions = _definitions("".join(lines))
    if definitions is None:
        return _text_of_block(code)
    return "\n".join(map(_dump, definitions.get((code.co_firstlineno, code.co_name), ())))


def _class_text(kind: type) -> str:
    try:
        file = inspect.getsourcefile(kind)
    except (OSError, TypeError):
        return ""
    if file is None:
        return ""
    linecache.checkcache(file)
    lines = linecache.getlines(file, vars(sys.modules[kind.__module__]))
    definitions = _definitions("".join(lines))
    if definitions is None:
        return _text_of_block(kind)
    return "\n".join(map(_dump, definitions.get((0, kind.__qualname__), ())))


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


def _text_of_block(thing: Any) -> str:
    """The text of the lines that `inspect` takes for a definition."""
    try:
        first = ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]
    except (OSError, TypeError, SyntaxError):
        return ""
    return _dump(first) if isinstance(first, _Definition) else ""


def _dump(definition: _Definition) -> str:
    bare = copy(definition)
    bare.decorator_list = [each for each in bare.decorator_list if not _defines_step(each)]
    return ast.dump(bare)


def _defines_step(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name in STEP_DECORATORS
