"""The hash of a function's definition: what makes a finished step of an older definition stale.

Noticed: the function's source (its docstring and its string constants, not its comments or layout), its
defaults, the values it closes over, and, through the names it uses, the constants, functions and classes of
its own module, and theirs in turn. Decorators that define steps are left out, because their options are not
part of the result.

Not noticed: other modules and packages (their names count, their contents do not), mutable state, files,
environment variables, the network. A step that depends on those turns reuse off, or takes them as arguments.
"""

from __future__ import annotations

import ast
import dis
import inspect
import textwrap
from collections.abc import Callable, Iterator
from hashlib import blake2b
from types import CodeType, ModuleType
from typing import Any

from carrara.runtime.codec import CodecError, dumps, lower
from carrara.runtime.codec.classes import module_name

STEP_DECORATORS = frozenset({"step", "llm", "workflow"})


def source_fingerprint(function: Callable[..., Any], *, docstring: bool = True) -> str:
    """32 hex digits. `docstring` False leaves the function's own docstring out, where it is no prompt.

    Looks at the module's names as they are now: call it when the module is loaded, not while it loads.
    """
    plain = inspect.unwrap(function)
    hashed = blake2b(digest_size=16)
    for part in _parts(plain, _home(plain), docstring, set()):
        hashed.update(part.encode("utf-8", "surrogatepass"))
        hashed.update(b"\0")
    return hashed.hexdigest()


def _home(thing: Any) -> str:
    return str(getattr(thing, "__module__", ""))


def _parts(function: Any, home: str, docstring: bool, seen: set[int]) -> Iterator[str]:
    """The texts that define `function`, and what it uses of module `home`; cycles are cut by `seen`."""
    if id(function) in seen:
        return
    seen.add(id(function))
    code = getattr(function, "__code__", None)
    if code is None:
        yield _name(function)
        return
    yield _source(function, docstring) or _code_text(code)
    yield from _value_parts("defaults", function.__defaults__, home, seen)
    yield from _value_parts("kwdefaults", function.__kwdefaults__, home, seen)
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # not filled yet: a function that names itself
            continue
        yield from _value_parts(name, value, home, seen)
    for name in sorted(_global_names(code)):
        if name in function.__globals__:
            yield from _value_parts(name, function.__globals__[name], home, seen)


def _value_parts(name: str, value: Any, home: str, seen: set[int]) -> Iterator[str]:
    yield name
    inner = inspect.unwrap(value) if callable(value) and not isinstance(value, type) else value
    if hasattr(inner, "__code__"):
        if _home(inner) == home:
            yield from _parts(inner, home, True, seen)
        else:
            yield _name(inner)
    elif isinstance(inner, type):
        yield from _class_parts(inner, home, seen)
    elif isinstance(inner, ModuleType) or callable(inner):
        yield _name(inner)
    else:
        yield _constant(inner)


def _class_parts(kind: type, home: str, seen: set[int]) -> Iterator[str]:
    yield _name(kind)
    if _home(kind) == home and id(kind) not in seen:
        seen.add(id(kind))
        yield _source(kind, True)
        for base in kind.__bases__:
            yield from _class_parts(base, home, seen)


def _name(thing: Any) -> str:
    qualified = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    return f"{module_name(_home(thing))}:{qualified or type(thing).__qualname__}"


def _constant(value: Any) -> str:
    """The text of a value that can be stored; of another only its class, because it may hold anything."""
    try:
        return dumps(lower(value, by_name=False))
    except (CodecError, RecursionError):
        return f"{type(value).__module__}:{type(value).__qualname__}"


def _source(thing: Any, docstring: bool) -> str:
    """The syntax tree as text, "" where there is no source (a console, exec)."""
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


def _global_names(code: CodeType) -> set[str]:
    names = {
        step.argval
        for step in dis.get_instructions(code)
        if step.opname in {"LOAD_GLOBAL", "LOAD_NAME"}
    }
    for const in code.co_consts:
        if isinstance(const, CodeType):
            names |= _global_names(const)
    return names
