"""What the codec says when it cannot store or read a part of a value, and how that part is named."""

from __future__ import annotations

from typing import Any

from carrara.engines.errors import CarraraError

At = tuple["At | None", str] | None
"""A place inside a value: the place around it and the last part, None for the whole. Cheap to extend."""


class CodecError(CarraraError, ValueError):
    """A value cannot be stored, or a stored text cannot be read. `path` names the part, "" the whole."""

    def __init__(self, reason: str, *, path: str = "") -> None:
        super().__init__(f"at {path}: {reason}" if path else reason)
        self.reason = reason
        self.path = path


def path_of(at: At) -> str:
    """Spell a place: `.items[3].when`."""
    parts: list[str] = []
    while at is not None:
        at, part = at
        parts.append(part)
    return "".join(reversed(parts))


def index(at: At, i: int) -> At:
    return (at, f"[{i}]")


def key(at: At, name: Any) -> At:
    plain = isinstance(name, str) and name.isidentifier()
    return (at, f".{name}" if plain else f"[{name!r}]")


_ITERATORS = {
    "map",
    "filter",
    "zip",
    "enumerate",
    "reversed",
    "dict_keys",
    "dict_values",
    "dict_items",
}
_FUNCTIONS = {"function", "builtin_function_or_method", "method", "partial"}


def refusal(value: Any) -> str:
    """Why `value` cannot be stored, and what to return in its place."""
    kind = type(value)
    name, package = kind.__qualname__, kind.__module__.partition(".")[0]
    if name in {"generator", "async_generator"} or name in _ITERATORS or name.endswith("_iterator"):
        return f"a {name} cannot be journaled; return a list of its items"
    if name in {"coroutine", "Task", "Future"}:
        return f"a {name} cannot be journaled; await it and return its result"
    if name in _FUNCTIONS or isinstance(value, type):
        what = "class" if isinstance(value, type) else "function"
        return f"a {what} cannot be journaled; return its name or what it computes"
    if isinstance(value, BaseException):
        return f"an exception ({name}) cannot be journaled; raise it, or return its text"
    if package in {"numpy", "torch", "jax"}:
        return f"{package}'s {name} cannot be journaled; return .tolist() or .item()"
    if package in {"pandas", "polars"}:
        return f"{package}'s {name} cannot be journaled; return its rows as a list of dicts"
    if hasattr(value, "read") and hasattr(value, "close"):
        return f"an open file ({name}) cannot be journaled; return its path or its text"
    for native in (str, int, float, list, dict, tuple, set):
        if isinstance(value, native):
            plain = native.__name__
            return f"{name} is a kind of {plain} that would come back as {plain}; return {plain}(…)"
    return (
        f"an object of class {name} cannot be journaled; make it a dataclass or a pydantic model, "
        "or return a dict"
    )
