"""The hash of a function's definition: what makes a finished step of an older definition stale.

Noticed: the function's source (its docstring and its string constants, not its comments or layout), its defaults, the
values it closes over or is bound to, the decorators around it, and, through the names it uses, the constants,
functions, classes and objects of its own project (the modules in its folder), also as `module.name` and in lists,
dicts and sets, and theirs in turn. Of a class its source counts, its methods as functions do, its annotations and the
values in it; of an object its class and its attributes. The classes in annotations count, for their values are what
the function works with. Decorators that define steps are left out, because their options are not part of the result.

Not noticed: libraries (their names count, their contents do not), objects of a library other than constants,
dataclasses, pydantic models and the forms that `contents` knows (of a lock, a connection, an array only the class
counts), what is imported inside a function, state that changes later, files, environment variables, the network. A
step that depends on those turns reuse off, or takes them as arguments. An object that holds another value each time it
is made, such as the time, makes its steps look changed.
"""

from __future__ import annotations

import inspect
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from hashlib import blake2b
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MappingProxyType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any, get_args, get_origin

from carrara.runtime.code_text import class_text, code_text, function_text
from carrara.runtime.codec.classes import module_name
from carrara.runtime.contents import attributes, constant, content, declared, form, stored
from carrara.runtime.uses import annotated, is_own, members, module_of, uses

_MOST_OBJECTS = 100_000
"""So many objects are looked into; of the others the class counts."""


def source_fingerprint(function: Callable[..., Any]) -> str:
    """32 hex digits. Looks at the module's names as they are now: call it when the module is loaded, not while it
    loads."""
    walk = _walk_from(function)
    return walk.digest()


def type_fingerprint(annotation: Any, home: str) -> str:
    """32 hex digits of the code in a type: the classes of the project of module `home` in it, and the functions with
    which they and their annotations check a value. "" where there is nothing beyond fields, as a contract tells those.
    """
    walk = _Walk(home)
    walk.mention(annotation)
    digest = walk.digest()
    return digest if walk.has_code else ""


def things_used(function: Callable[..., Any]) -> list[Any]:
    """The functions, classes and objects that count for the fingerprint of a function, itself first, in an order that
    is the same in every process."""
    walk = _walk_from(function)
    walk.digest()
    return walk.used


def _walk_from(function: Any) -> _Walk:
    walk = _Walk(module_of(_innermost(function)))
    walk.mention(function)
    return walk


def _innermost(function: Any) -> Any:
    """What a function wraps, or a partial calls, in the end."""
    function = inspect.unwrap(function)
    while isinstance(function, partial):
        function = inspect.unwrap(function.func)
    return function


@dataclass(slots=True)
class _Walk:
    """A walk over what the code of module `home` uses, breadth first, so that neither long chains nor cycles matter.

    Each thing gets a number where it is first mentioned, is described once, and is that number wherever else it is
    mentioned: which of several known things a name stands for counts, too. `numbers` keeps the things themselves, for
    an id may else come to mean another one. A walk `within` another knows its things as well, and gives `first` and
    the numbers from there on to those of its own; `apart` are the things that such walks have met. `has_code`: there
    was more than classes of nothing but fields.
    """

    home: str
    objects_left: int = field(default_factory=lambda: _MOST_OBJECTS)
    within: _Walk | None = None
    first: int = 0
    numbers: dict[int, tuple[int, Any]] = field(default_factory=dict)
    things: list[Any] = field(default_factory=list)
    apart: list[Any] = field(default_factory=list)
    waiting: deque[Any] = field(default_factory=deque)
    hashed: Any = field(default_factory=lambda: blake2b(digest_size=16))
    has_code: bool = False

    def digest(self) -> str:
        while self.waiting:
            self._describe(self.waiting.popleft())
        return str(self.hashed.hexdigest())

    def say(self, *texts: str) -> None:
        for text in texts:
            self.hashed.update(text.encode("utf-8", "surrogatepass"))
            self.hashed.update(b"\0")

    def mention(self, value: Any) -> None:
        text = constant(value)
        if text is not None:
            self.say(text)
            return
        number = None if _is_made_anew(value) else self._number_of(value)
        if number is None:
            number = self.first + len(self.things)
            self.things.append(value)
            self.numbers[id(value)] = number, value
            self.waiting.append(value)
        self.say(f"#{number}")

    def _number_of(self, value: Any) -> int | None:
        walk: _Walk | None = self
        while walk is not None:
            if id(value) in walk.numbers:
                return walk.numbers[id(value)][0]
            walk = walk.within
        return None

    def _named(self, named: Iterable[tuple[str, Any]]) -> None:
        for name, value in named:
            self.say(name)
            self.mention(value)
        self.say("")

    def _all(self, values: Iterable[Any]) -> None:
        for value in values:
            self.mention(value)
        self.say("")

    def _is_own(self, thing: Any) -> bool:
        return is_own(module_of(thing), self.home)

    def _describe(self, value: Any) -> None:
        kind = type(value)
        if kind is FunctionType:
            self._function(value)
        elif issubclass(kind, type):
            self._class(value)
        elif issubclass(kind, ModuleType):
            self.say("module", module_name(value.__name__))
        elif kind is CodeType:
            self.say("code", code_text(value))
        elif kind is MethodType:
            self.say("method")
            self._all((value.__func__, value.__self__))
        elif kind is BuiltinFunctionType or kind is MethodWrapperType:
            self.say("built in", _name(value))
            bound = value.__self__
            self._all(() if issubclass(type(bound), ModuleType) else (bound,))
        elif _is_special_type(kind):
            self._special_type(value)
        else:
            self._object(value)

    def _function(self, function: FunctionType) -> None:
        if not self._is_own(function):
            self._foreign_function(function)
            return
        self.has_code = True
        self.say("function", function_text(function) or code_text(function.__code__))
        self._all((function.__defaults__, function.__kwdefaults__))
        self._named(uses(function))
        self._named(annotated(function))
        self._named(sorted(function.__dict__.items()))

    def _foreign_function(self, function: FunctionType) -> None:
        """A library's function: its name, and what it has of the project, as a decorator does."""
        self.say("of a library", _name(function))
        self.has_code |= not module_of(function).startswith("pydantic.")  # `Field`
        held = (
            *_cells(function),
            *(function.__defaults__ or ()),
            function.__dict__.get("__wrapped__"),
        )
        self._all(value for value in held if self._is_code(value))
        registry = function.__dict__.get("registry")  # of functools.singledispatch
        if type(registry) is MappingProxyType:
            for kind, implementation in sorted(registry.items(), key=lambda pair: _name(pair[0])):
                self._all((kind, implementation))

    def _is_code(self, value: Any) -> bool:
        kind = type(value)
        if kind is FunctionType or issubclass(kind, type):
            return self._is_own(value)
        return issubclass(kind, partial | MethodType) or self._is_own(kind)

    def _class(self, kind: type) -> None:
        self.say("class", _name(kind))
        parts = vars(kind)
        self._all(parts.get("__pydantic_generic_metadata__", {}).get("args", ()))
        if not self._is_own(kind):
            return
        text = class_text(kind)
        self.say(text)
        self._all((type(kind), *kind.__bases__, *parts.get("__orig_bases__", ())))
        self._named(annotated(kind))
        fields = declared(kind) or {}
        self._named(fields.items())
        self._named(parts.get("__private_attributes__", {}).items())
        of_enum = parts.get("_member_map_", {})
        self._named((name, member._value_) for name, member in of_enum.items())
        found = [
            (name, value)
            for name, value in members(kind)
            if name not in of_enum and not (text and _is_generated(name, value))
        ]
        self._named(found)
        self.has_code |= any(not _is_of_data(name, value, fields) for name, value in found)

    def _special_type(self, value: Any) -> None:
        """An annotation that is no class: `list[Item]`, `Annotated[...]`, a type variable, an alias."""
        if get_origin(value) is not None:
            self.say("type")
            self._all((get_origin(value), *get_args(value)))
        else:
            name = getattr(value, "__forward_arg__", None) or getattr(value, "__name__", None)
            self.say("type", name or repr(value))
            with suppress(NameError):  # `type X = ...` is evaluated here
                self._all(filter(None, (getattr(value, each, None) for each in _BEHIND)))

    def _object(self, value: Any) -> None:
        """An object: its class, its items where it is a list or the like, and what it holds where that can be told."""
        kind = type(value)
        self.say("object")
        self.mention(kind)
        if issubclass(kind, Enum):
            self.say(str(value._name_))
            self.mention(value._value_)
            return
        if self.objects_left <= 0:
            return
        self.objects_left -= 1
        self.has_code |= kind.__module__ == "pydantic.types"  # `Strict`, to upper case
        self._items(value)
        if self._is_own(kind):
            self._named(attributes(value).items())
            return
        if kind.__module__.startswith("carrara.") and hasattr(kind, "defining_things"):
            self._all(value.defining_things())  # an LLM step
            return
        self._named((form(value) or {}).items())
        if callable(value) and not hasattr(
            kind, "__getattr__"
        ):  # `str.upper`, a function written in C
            names = (
                getattr(value, name, None) for name in ("__module__", "__qualname__", "__name__")
            )
            self.say(*(name for name in names if isinstance(name, str)))
        wrapped = stored(value).get("__wrapped__")  # by a step, a cache
        self._all(() if wrapped is None else (wrapped,))

    def _items(self, value: Any) -> None:
        found = content(value)
        if found is None:
            return
        name, parts = found
        self.say(name)
        if name in ("set", "frozenset"):
            self._unordered(parts)
        else:
            self._all(parts)

    def _unordered(self, parts: Iterable[Any]) -> None:
        """The parts of a set in an order that is the same in every process: by their texts, by their names, and those
        of one name each as if the others were not there."""
        texts: list[str] = []
        named: defaultdict[str, list[Any]] = defaultdict(list)
        for part in parts:
            text = constant(part)
            if text is None:
                named[_label(part)].append(part)
            else:
                texts.append(text)
        self.say(*sorted(texts))
        share = self.objects_left // max(1, sum(map(len, named.values())))
        for name, alike in sorted(named.items()):
            self.say(name)
            if len(alike) == 1:
                self._all(alike)
            else:
                self._alike(alike, share)
        self.say("")

    def _alike(self, parts: list[Any], objects_each: int) -> None:
        found = []
        for part in parts:
            inner = _Walk(self.home, objects_each, self, self.first + len(self.things))
            inner.mention(part)
            found.append((inner.digest(), inner))
        for digest, inner in sorted(found, key=lambda pair: pair[0]):
            self.say(digest)
            self.apart += inner.used
            self.objects_left -= objects_each - inner.objects_left
            self.has_code |= inner.has_code

    @property
    def used(self) -> list[Any]:
        return self.things + self.apart


_OF_TYPES = {"typing", "typing_extensions", "types"}
_BEHIND = ("__supertype__", "__value__", "__bound__")


def _is_made_anew(value: Any) -> bool:
    """Whether a value can be another object each time though it is the same: a tuple and its like, a method."""
    kind = type(value)
    if kind in (tuple, frozenset, MethodType, BuiltinFunctionType, MethodWrapperType):
        return True
    return _is_special_type(kind) and get_origin(value) is not None


def _is_special_type(kind: type) -> bool:
    return kind.__module__ in _OF_TYPES and kind is not SimpleNamespace


def _is_generated(name: str, value: Any) -> bool:
    """Whether a library made a method from the source of the class, such as a dataclass's `__init__`: its code is
    another one in each version of Python."""
    is_special = name.startswith("__") and name.endswith("__")
    return is_special and type(value) is FunctionType and not function_text(value)


def _is_of_data(name: str, value: Any, fields: Mapping[str, Any]) -> bool:
    """Whether a class of nothing but fields has that, too: defaults, and what every model has."""
    return name in fields or name == "_abc_impl" or constant(value) == "{}"


def _label(value: Any) -> str:
    """What tells most things in a set apart: the name of a function, class or member of an enum, else of the class."""
    kind = type(value)
    if kind is FunctionType or issubclass(kind, type):
        return _name(value)
    return f"{_name(kind)}.{value._name_}" if issubclass(kind, Enum) else _name(kind)


def _cells(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # not filled yet
            yield cell.cell_contents


def _name(thing: Any) -> str:
    """Of a function, class or built-in."""
    return f"{module_name(module_of(thing))}:{thing.__qualname__}"
