"""The hash of a function's definition: what makes a finished step of an older definition stale.

Noticed: the function's source (its docstring and its string constants, not its comments or layout), its
defaults, the values it closes over or is bound to, and, through the names it uses, the constants, functions and
classes of its own project (the modules in its folder), also as `module.name` and in lists and dicts, and theirs in
turn. Decorators that define steps are left out, because their options are not part of the result.

Not noticed: libraries (their names count, their contents do not), what is imported inside a function, mutable
state, files, environment variables, the network. A step that depends on those turns reuse off, or takes them as
arguments.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from hashlib import blake2b
from types import CodeType, MethodType, ModuleType
from typing import Any

from carrara.runtime.codec import CodecError, dumps, lower
from carrara.runtime.codec.classes import module_name
from carrara.runtime.uses import is_own, module_of, uses

STEP_DECORATORS = frozenset({"step", "llm", "workflow"})


def source_fingerprint(function: Callable[..., Any], *, docstring: bool = True) -> str:
    """32 hex digits. `docstring` False leaves the function's own docstring out, where it is no prompt.

    Looks at the module's names as they are now: call it when the module is loaded, not while it loads.
    """
    plain = inspect.unwrap(function)
    hashed = blake2b(digest_size=16)
    for part in _parts(plain, module_of(_innermost(plain)), docstring, set()):
        hashed.update(part.encode("utf-8", "surrogatepass"))
        hashed.update(b"\0")
    return hashed.hexdigest()


def _innermost(function: Any) -> Any:
    """What a partial calls in the end."""
    while isinstance(function, partial):
        function = inspect.unwrap(function.func)
    return function


def _parts(function: Any, home: str, docstring: bool, seen: set[int]) -> Iterator[str]:
    """The texts that define `function`, and what it uses of the project of module `home`; cycles are cut by
    `seen`."""
    if id(function) in seen:
        return
    seen.add(id(function))
    if isinstance(function, partial):
        yield from _parts(inspect.unwrap(function.func), home, docstring, seen)
        yield from _value_parts("args", function.args, home, seen)
        yield from _value_parts("keywords", function.keywords, home, seen)
        return
    code = getattr(function, "__code__", None)
    if code is None:
        yield from _object_parts(function, home, seen)
        return
    yield _source(function, docstring) or _code_text(code)
    yield from _value_parts("defaults", function.__defaults__, home, seen)
    yield from _value_parts("kwdefaults", function.__kwdefaults__, home, seen)
    if isinstance(function, MethodType) and not isinstance(function.__self__, type):
        yield from _object_parts(function.__self__, home, seen)
    for name, value in uses(function):
        yield from _value_parts(name, value, home, seen)


def _object_parts(called: Any, home: str, seen: set[int]) -> Iterator[str]:
    """An object with a body of its own: its class and what it holds."""
    if isinstance(called, type):
        yield from _class_parts(called, home, seen)
        return
    yield _name(called)
    if is_own(module_of(type(called)), home):
        yield from _class_parts(type(called), home, seen)
        for name, value in sorted(getattr(called, "__dict__", {}).items()):
            yield from _value_parts(name, value, home, seen)


def _value_parts(name: str, value: Any, home: str, seen: set[int]) -> Iterator[str]:
    yield name
    inner = inspect.unwrap(value) if callable(value) and not isinstance(value, type) else value
    if hasattr(inner, "__code__") or isinstance(inner, partial):
        if isinstance(inner, partial) or is_own(module_of(inner), home):
            yield from _parts(inner, home, True, seen)
        else:
            yield _name(inner)
    elif isinstance(inner, type):
        yield from _class_parts(inner, home, seen)
    elif isinstance(inner, ModuleType) or callable(inner):
        yield _name(inner)
    else:
        text = _constant(inner)
        yield text
        if text == _class_name(inner) and id(inner) not in seen:
            seen.add(id(inner))
            yield from _members(inner, home, seen)


def _members(value: Any, home: str, seen: set[int]) -> Iterator[str]:
    """A list or dict that holds functions or steps, such as the tools of an agent."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _value_parts(str(name), part, home, seen)
    elif isinstance(value, list | tuple):
        for place, part in enumerate(value):
            yield from _value_parts(str(place), part, home, seen)


def _class_parts(kind: type, home: str, seen: set[int]) -> Iterator[str]:
    yield _name(kind)
    if is_own(module_of(kind), home) and id(kind) not in seen:
        seen.add(id(kind))
        yield _source(kind, True)
        for base in kind.__bases__:
            yield from _class_parts(base, home, seen)


def _name(thing: Any) -> str:
    qualified = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    return f"{module_name(module_of(thing))}:{qualified or type(thing).__qualname__}"


def _constant(value: Any) -> str:
    """The text of a value that can be stored; of another only its class, because it may hold anything."""
    try:
        return dumps(lower(value, by_name=False))
    except (CodecError, RecursionError):
        return _class_name(value)


def _class_name(value: Any) -> str:
    return f"{type(value).__module__}:{type(value).__qualname__}"


def _source(thing: Any, docstring: bool) -> str:
    """The syntax tree as text, "" where there is no source (a console, exec)."""
    code = getattr(thing, "__code__", None)
    if isinstance(code, CodeType):
        return _source_of_code(
            code, code.co_filename, docstring
        )  # equal code may stand in two files
    return _tree_text(thing, docstring)


@lru_cache(maxsize=4096)
def _source_of_code(code: CodeType, file: str, docstring: bool) -> str:
    return _tree_text(code, docstring)


def _tree_text(thing: Any, docstring: bool) -> str:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):  # a lambda inside an expression is no statement
        return ""
    first = tree.body[0]
    if not isinstance(first, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return ""  # a lambda: the statement around it says more than the function
    first.decorator_list = [d for d in first.decorator_list if not _defines_step(d)]
    if not docstring and ast.get_docstring(first, clean=False) is not None:
        first.body = first.body[1:]
    return ast.dump(first)


def _defines_step(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name in STEP_DECORATORS


def _code_text(code: CodeType) -> str:
    """A code object as text, for want of source. Changes with the Python version."""
    inner = (
        _code_text(const) if isinstance(const, CodeType) else repr(const)
        for const in code.co_consts
    )
    return "\n".join((code.co_code.hex(), *inner, *code.co_names, *code.co_varnames))
