"""Enums, dataclasses, pydantic models and named tuples: their state is stored, and set again as it was.

Setting the state instead of calling the constructor keeps a value exact: no validator runs twice, no default
fills in for what was there. A class is named "module:Qualified.name" and found again among the classes of the
step's return annotation, else in the modules that the program has loaded; nothing is imported.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cached_property, lru_cache
from pathlib import PurePath
from typing import Any

from carrara.runtime.codec.errors import CodecError
from carrara.runtime.codec.reachable import classes_in
from carrara.runtime.codec.tags import Lift, Lower


@dataclasses.dataclass(slots=True)
class Lookup:
    """Where classes are found: in annotation `returns`, then by name. `must_find`: refuse one that is not."""

    returns: Any
    must_find: bool
    _declared: Mapping[str, tuple[type, ...]] | None = None

    @property
    def declared(self) -> Mapping[str, tuple[type, ...]]:
        """The annotation's classes by qualified name."""
        if self._declared is None:
            self._declared = {} if self.returns is None else classes_in(self.returns)
        return self._declared

    def name(self, kind: type) -> str:
        """How `kind` is written down.

        Raises:
            CodecError: nothing of that name would be found when it is read.
        """
        module, qualified = module_name(kind.__module__), kind.__qualname__
        if self.must_find and self._find(module, qualified) is not kind:
            raise CodecError(
                f"class {qualified} of {module} cannot be found by its name; define it at the top of "
                "its module, or name it in the step's return annotation"
            )
        return f"{module}:{qualified}"

    def find(self, name: str) -> type:
        """Raises CodecError where the class is not loaded or gone."""
        module, _, qualified = name.partition(":")
        found = self._find(module, qualified)
        if found is None:
            raise CodecError(
                f"class {qualified} of {module} is not loaded here; import it where the workflow is "
                "defined, or name it in the step's return annotation"
            )
        return found

    def _find(self, module: str, qualified: str) -> type | None:
        declared = self.declared.get(qualified, ())
        for kind in declared:
            if module_name(kind.__module__) == module:
                return kind
        found: Any = _loaded(module)
        for part in qualified.split("."):
            found = getattr(found, part, None)
        if isinstance(found, type):
            return found
        return declared[0] if len(declared) == 1 else None


def module_name(name: str) -> str:
    """A module's name that does not change when its file is run as a script instead of imported."""
    if name != "__main__":
        return name
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    file = getattr(main, "__file__", None)
    if spec is not None:
        return str(spec.name)
    return PurePath(file).stem if file else name


def _loaded(module: str) -> Any:
    found = sys.modules.get(module)
    return sys.modules["__main__"] if found is None and module_name("__main__") == module else found


def lower(value: Any, lookup: Lookup, within: Lower) -> dict[str, Any] | None:
    """The tagged tree of an instance, None if it is of no class that can be stored."""
    kind = type(value)
    if isinstance(value, Enum):
        return _lower_enum(value, lookup)
    if dataclasses.is_dataclass(kind):
        return {"$data": [lookup.name(kind), _lower_fields(_state(value), within)]}
    if hasattr(kind, "__pydantic_fields_set__") and hasattr(kind, "model_fields"):
        return {"$model": _lower_model(value, lookup, within)}
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        parts = {name: within(part, name) for name, part in zip(kind._fields, value, strict=True)}
        return {"$named": [lookup.name(kind), parts]}
    return _lower_foreign(value, lookup)


def lift(tag: str, body: Any, lookup: Lookup, within: Lift) -> Any:
    """Raises CodecError where the class is not found, or no longer has the fields that were stored."""
    lifters: dict[str, Callable[[type, Any, Lift], Any]] = {
        "$enum": _lift_enum,
        "$data": _lift_data,
        "$model": _lift_model,
        "$named": _lift_named,
        "$type": _lift_foreign,
    }
    if tag not in lifters:
        raise CodecError(f"unknown tag {tag!r}: written by a newer Carrara?")
    name, state = body
    return lifters[tag](lookup.find(name), state, within)


def _lower_fields(state: Mapping[str, Any], within: Lower) -> list[Any]:
    """Pairs, not an object: a field may be called anything."""
    return [[name, within(part, name)] for name, part in state.items()]


def _lower_enum(value: Enum, lookup: Lookup) -> dict[str, Any]:
    kind = type(value)
    if value.name in kind.__members__:
        return {"$enum": [lookup.name(kind), value.name]}
    return {"$enum": [lookup.name(kind), [value.value]]}  # flags joined by "|" have a number only


def _lift_enum(kind: type, state: Any, _: Lift) -> Any:
    found: Any = kind
    if isinstance(state, list):
        return found(state[0])
    if state not in found.__members__:
        raise CodecError(f"{kind.__qualname__} has no member {state!r} any more")
    return found[state]


def _state(value: Any) -> dict[str, Any]:
    """Fields, and what else the instance holds; cached properties are left to be computed again."""
    state = {
        field.name: getattr(value, field.name)
        for field in dataclasses.fields(value)
        if hasattr(value, field.name)
    }
    for name, part in getattr(value, "__dict__", {}).items():
        if not isinstance(getattr(type(value), name, None), cached_property):
            state.setdefault(name, part)
    return state


def _check_fields(kind: type, now: set[str], stored: set[str]) -> None:
    if now - stored:
        added = ", ".join(sorted(now - stored))
        raise CodecError(f"{kind.__qualname__} has fields now that the stored value lacks: {added}")


def _lift_data(kind: type, state: Any, within: Lift) -> Any:
    if not dataclasses.is_dataclass(kind):
        raise CodecError(f"{kind.__qualname__} is no dataclass any more")
    parts = {name: within(part) for name, part in state}
    _check_fields(kind, {field.name for field in dataclasses.fields(kind)}, set(parts))
    made = object.__new__(kind)
    for name, part in parts.items():
        object.__setattr__(made, name, part)
    return made


def _lower_model(value: Any, lookup: Lookup, within: Lower) -> list[Any]:
    fields = type(value).model_fields
    parts = {name: part for name, part in value.__dict__.items() if name in fields}
    held: dict[str, Any] = {"fields": _lower_fields(parts, within)}
    if value.__pydantic_fields_set__ != parts.keys():
        held["set"] = sorted(value.__pydantic_fields_set__)
    if value.__pydantic_extra__ is not None:
        held["extra"] = _lower_fields(value.__pydantic_extra__, within)
    if value.__pydantic_private__ is not None:
        held["private"] = _lower_fields(_set_only(value.__pydantic_private__), within)
    return [lookup.name(type(value)), held]


def _set_only(private: Mapping[str, Any]) -> dict[str, Any]:
    from pydantic_core import PydanticUndefined

    return {name: part for name, part in private.items() if part is not PydanticUndefined}


def _lift_model(kind: type, held: Any, within: Lift) -> Any:
    found: Any = kind
    made = found.__new__(found)
    if not hasattr(made, "__setstate__") or not hasattr(kind, "model_fields"):
        raise CodecError(f"{kind.__qualname__} is no pydantic model any more")
    parts = {name: within(part) for name, part in held["fields"]}
    now = set(kind.model_fields)
    _check_fields(kind, now, set(parts))
    if set(parts) - now:
        gone = ", ".join(sorted(set(parts) - now))
        raise CodecError(
            f"{kind.__qualname__} has no fields any more that the stored value has: {gone}"
        )

    def pairs(name: str) -> dict[str, Any] | None:
        return {k: within(v) for k, v in held[name]} if name in held else None

    made.__setstate__(
        {
            "__dict__": parts,
            "__pydantic_fields_set__": set(held.get("set", parts)),
            "__pydantic_extra__": pairs("extra"),
            "__pydantic_private__": pairs("private"),
        }
    )
    return made


def _lift_named(kind: type, state: Any, within: Lift) -> Any:
    found: Any = kind
    if list(state) != list(found._fields):
        raise CodecError(f"{kind.__qualname__} has other fields than the stored value")
    return found._make(within(part) for part in state.values())


@lru_cache(maxsize=256)
def _adapter(kind: Any) -> Any:
    """pydantic's view of a foreign class, None if it has none."""
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

    try:
        return TypeAdapter(kind)
    except (PydanticSchemaGenerationError, PydanticUserError):
        return None


def _lower_foreign(value: Any, lookup: Lookup) -> dict[str, Any] | None:
    """Classes that pydantic knows (URLs, network addresses), if they come back equal and of their class."""
    kind: Any = type(value)
    if isinstance(value, (str, int, float, list, dict, tuple, set, type)) or callable(value):
        return None
    adapter = _adapter(kind)
    if adapter is None:
        return None
    try:
        tree = adapter.dump_python(value, mode="json")
        back = adapter.validate_python(tree)
        same = type(back) is kind and bool(back == value)
    except Exception:  # foreign code; whatever it raises means that the value cannot be stored
        return None
    return {"$type": [lookup.name(kind), tree]} if same else None


def _lift_foreign(kind: Any, tree: Any, _: Lift) -> Any:
    adapter = _adapter(kind)
    if adapter is None:
        raise CodecError(f"{kind.__qualname__} can no longer be read by pydantic")
    return adapter.validate_python(tree)
