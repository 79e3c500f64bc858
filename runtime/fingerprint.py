"""The hash of a function's definition: what makes a finished step of an older definition stale.

Noticed: the function's source (its docstring and its string constants, not its comments or layout), its
defaults, the values it closes over or is bound to, the decorators around it, and, through the names it uses, the
constants, functions, classes and objects of its own project (the modules in its folder), also as `module.name` and in
lists and dicts, and theirs in turn. Of a class its source counts and what its body defines, methods as functions do; of
an object its class and its attributes, of an attribute that has no text (a lock, a connection) only the class.
Decorators that define steps are left out, because their options are not part of the result.

Not noticed: libraries (their names count, their contents do not), what is imported inside a function, state that
changes later, files, environment variables, the network. A step that depends on those turns reuse off, or takes them as
arguments. An object that holds another value each time it is made, such as the time, makes its steps look changed.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from hashlib import blake2b
from itertools import chain
from types import CodeType, MethodType, ModuleType
from typing import Any

from carrara.runtime.codec import CodecError, dumps, lower
from carrara.runtime.codec.classes import module_name
from carrara.runtime.uses import is_own, members, module_of, uses

STEP_DECORATORS = frozenset({"step", "llm", "workflow"})


_DEEPEST, _MOST_OBJECTS = 30, 10_000
"""Objects of the project are looked into where they hold each other so deep, and so many of them; else the class
counts."""


@dataclass(slots=True)
class _Walk:
    """A walk over what a function of module `home` uses; cycles are cut by `seen`. `classes`, and whether they have a
    source, are still to be looked into: one after the other, as those of a large project use each other in long chains.
    """

    home: str
    seen: set[int] = field(default_factory=set)
    classes: deque[tuple[type, bool]] = field(default_factory=deque)
    objects: int = 0
    depth: int = 0

    def is_new(self, thing: object) -> bool:
        if id(thing) in self.seen:
            return False
        self.seen.add(id(thing))
        return True

    def is_own(self, module: str) -> bool:
        return is_own(module, self.home)


def source_fingerprint(function: Callable[..., Any], *, docstring: bool = True) -> str:
    """32 hex digits. `docstring` False leaves the function's own docstring out, where it is no prompt.

    Looks at the module's names as they are now: call it when the module is loaded, not while it loads.
    """
    hashed = blake2b(digest_size=16)
    walk = _Walk(module_of(_innermost(function)))
    for part in chain(_wrapped_parts(function, docstring, walk), _member_parts(walk)):
        hashed.update(part.encode("utf-8", "surrogatepass"))
        hashed.update(b"\0")
    return hashed.hexdigest()


def _innermost(function: Any) -> Any:
    """What a function wraps, or a partial calls, in the end."""
    function = inspect.unwrap(function)
    while isinstance(function, partial):
        function = inspect.unwrap(function.func)
    return function


def _wrapped_parts(function: Any, docstring: bool, walk: _Walk) -> Iterator[str]:
    """What a function under decorators does, and what those of its project do around it."""
    *wrappers, inner = _layers(function)
    yield from _parts(inner, docstring, walk)
    yield from _parts_around(wrappers, walk)


def _layers(function: Any) -> list[Any]:
    """The function, and what it wraps, each inside the one before."""
    inner = inspect.unwrap(function)
    found = [function]
    while found[-1] is not inner:
        found.append(found[-1].__wrapped__)
    return found


def _parts_around(wrappers: Iterable[Any], walk: _Walk) -> Iterator[str]:
    for wrapper in wrappers:
        # `functools.wraps` gives a wrapper the module of what it wraps: its own is that of its globals.
        names = getattr(wrapper, "__globals__", None)
        module = module_of(type(wrapper)) if names is None else str(names.get("__name__", ""))
        if walk.is_own(module):
            yield from _parts(wrapper, True, walk)


def _parts(function: Any, docstring: bool, walk: _Walk) -> Iterator[str]:
    """The texts that define `function`, and what it uses of its project."""
    if isinstance(function, partial):
        if walk.is_new(function):
            yield from _wrapped_parts(function.func, docstring, walk)
            yield from _value_parts("args", function.args, walk)
            yield from _value_parts("keywords", function.keywords, walk)
        return
    code = getattr(function, "__code__", None)
    if code is None:
        yield from _object_parts(function, walk)
        return
    if not walk.is_new(function):
        return
    yield _source(function, docstring) or _code_text(code)
    yield from _value_parts("defaults", function.__defaults__, walk)
    yield from _value_parts("kwdefaults", function.__kwdefaults__, walk)
    if isinstance(function, MethodType) and not isinstance(function.__self__, type):
        yield from _object_parts(function.__self__, walk)
    for name, value in uses(function):
        yield from _value_parts(name, value, walk)


def _object_parts(thing: Any, walk: _Walk) -> Iterator[str]:
    """An object: its class, and what it holds where that is of the project."""
    if isinstance(thing, type):
        yield from _class_parts(thing, walk)
        return
    yield _name(thing)
    if not walk.is_own(module_of(type(thing))) or not walk.is_new(thing):
        return
    yield from _class_parts(type(thing), walk)
    if walk.depth == _DEEPEST or walk.objects == _MOST_OBJECTS:
        return
    walk.depth += 1
    walk.objects += 1
    for name, value in _held(thing):
        yield from _value_parts(name, value, walk)
    walk.depth -= 1


def _held(thing: Any) -> list[tuple[str, Any]]:
    """The attributes of an object itself, by name."""
    found = dict(getattr(thing, "__dict__", {}))
    for kind in type(thing).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(thing, name):
                found[name] = getattr(thing, name)
    return sorted(found.items())


def _value_parts(name: str, value: Any, walk: _Walk) -> Iterator[str]:
    yield name
    layers = _layers(value) if callable(value) and not isinstance(value, type) else [value]
    inner = layers[-1]
    if hasattr(inner, "__code__") or isinstance(inner, partial):
        if isinstance(inner, partial) or walk.is_own(module_of(inner)):
            yield from _parts(inner, True, walk)
        else:
            yield _name(inner)
    elif isinstance(inner, type):
        yield from _class_parts(inner, walk)
    elif isinstance(inner, ModuleType):
        yield _name(inner)
    elif callable(inner):
        yield from _object_parts(inner, walk)
    else:
        text = _constant(inner)
        yield text
        if walk.is_own(module_of(type(inner))):
            yield from _object_parts(inner, walk)
        elif text == _class_name(inner) and walk.is_new(inner):
            yield from _members(inner, walk)
    yield from _parts_around(layers[:-1], walk)


def _members(value: Any, walk: _Walk) -> Iterator[str]:
    """A list or dict that holds functions, steps or objects, such as the tools of an agent."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _value_parts(str(name), part, walk)
    elif isinstance(value, list | tuple):
        for place, part in enumerate(value):
            yield from _value_parts(str(place), part, walk)


def _class_parts(kind: type, walk: _Walk) -> Iterator[str]:
    yield _name(kind)
    if walk.is_own(module_of(kind)) and walk.is_new(kind):
        source = _source(kind, True)
        yield source
        walk.classes.append((kind, bool(source)))
        for base in kind.__bases__:
            yield from _class_parts(base, walk)


def _member_parts(walk: _Walk) -> Iterator[str]:
    """What the classes that have come up define; more may come up in it."""
    while walk.classes:
        kind, has_source = walk.classes.popleft()
        for name, value in members(kind):
            if not callable(value) or isinstance(value, type):
                yield from _value_parts(name, value, walk)
                continue
            inner = _innermost(value)
            if has_source and hasattr(inner, "__code__") and not _source(inner, True):
                yield from _generated_parts(inner, walk)
            elif any(walk.is_own(module_of(each)) for each in (inner, *_layers(value))):
                yield from _value_parts(name, value, walk)


def _generated_parts(function: Any, walk: _Walk) -> Iterator[str]:
    """A method that a library has made from the source of a class (a dataclass's `__init__`), or a lambda in it: only
    what it uses, as its code is another one in each version of Python."""
    if walk.is_own(module_of(function)) and walk.is_new(function):
        for _, value in uses(function):
            if walk.is_own(module_of(value)) or walk.is_own(module_of(type(value))):
                yield from _value_parts("", value, walk)


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
