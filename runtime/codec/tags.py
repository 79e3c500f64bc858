"""The standard library's own types: one tag each, exact in both directions.

Types are found by name, so that a program which never uses `decimal` never loads it.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from carrara.runtime.codec.errors import CodecError

Lower = Callable[[Any, str | int], Any]
"""Lower a part of the value: (part, its name or index) -> tree."""
Lift = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Tag:
    name: str
    lower: Callable[[Any, Lower], Any]
    lift: Callable[[Any, Lift], Any]


def of(kind: type) -> Tag | None:
    """The tag of exactly this type."""
    return _BY_TYPE.get(f"{kind.__module__}.{kind.__qualname__}")


def named(name: str) -> Tag | None:
    return _BY_NAME.get(name)


def _load(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def _items(value: Any, within: Lower) -> list[Any]:
    return [within(part, i) for i, part in enumerate(value)]


def _sorted_items(value: Any, within: Lower) -> list[Any]:
    """Sets have no order of their own; one is chosen so that equal sets have equal text."""
    return sorted(_items(value, within), key=lambda tree: json.dumps(tree, sort_keys=True))


def _pairs(value: Any, within: Lower) -> list[Any]:
    return [[within(name, repr(name)), within(part, repr(name))] for name, part in value.items()]


def _sequence(type_name: str, tag: str, lower: Callable[[Any, Lower], Any] = _items) -> Tag:
    return Tag(tag, lower, lambda body, lift: _load(type_name)(map(lift, body)))


def _text(type_name: str, tag: str) -> Tag:
    """A type whose `str` says everything."""
    return Tag(tag, lambda value, _: str(value), lambda body, _: _load(type_name)(body))


def _numbers(type_name: str, tag: str, *names: str) -> Tag:
    """A type that is made of the numbers found under `names`, in the order of its constructor."""
    return Tag(
        tag,
        lambda value, within: [within(getattr(value, name), name) for name in names],
        lambda body, lift: _load(type_name)(*map(lift, body)),
    )


def _mapping(type_name: str, tag: str) -> Tag:
    return Tag(
        tag,
        _pairs,
        lambda body, lift: _load(type_name)({lift(k): lift(v) for k, v in body}),
    )


def _bytes(type_name: str, tag: str) -> Tag:
    def lower(value: Any, _: Lower) -> str:
        import base64

        return base64.b64encode(value).decode()

    def lift(body: str, _: Lift) -> Any:
        import base64

        return _load(type_name)(base64.b64decode(body, validate=True))

    return Tag(tag, lower, lift)


def _lower_deque(value: Any, within: Lower) -> list[Any]:
    return [_items(value, within), value.maxlen]


def _lift_deque(body: Any, lift: Lift) -> Any:
    return _load("collections.deque")(map(lift, body[0]), body[1])


def _lower_zone(zone: Any) -> Any:
    """None, an IANA name, or [days, seconds, microseconds, name or null] of a fixed offset."""
    if zone is None:
        return None
    kind = f"{type(zone).__module__}.{type(zone).__qualname__}"
    if kind == "zoneinfo.ZoneInfo" and zone.key:
        return zone.key
    if kind in {"datetime.timezone", "pydantic_core._pydantic_core.TzInfo"}:
        offset = zone.utcoffset(None)
        name = zone.tzname(None)
        plain = _load("datetime.timezone")(offset).tzname(None)
        named = name if kind == "datetime.timezone" and name != plain else None
        return [offset.days, offset.seconds, offset.microseconds, named]
    raise CodecError(
        f"the time zone {type(zone).__qualname__} cannot be journaled; use zoneinfo.ZoneInfo or "
        "datetime.timezone"
    )


def _lift_zone(body: Any) -> Any:
    if body is None:
        return None
    if isinstance(body, str):
        return _load("zoneinfo.ZoneInfo")(body)
    days, seconds, microseconds, name = body
    offset = _load("datetime.timedelta")(days, seconds, microseconds)
    zone = _load("datetime.timezone")
    if name is not None:
        return zone(offset, name)
    return zone(offset) if offset else zone.utc


def _clock(type_name: str, tag: str) -> Tag:
    """datetime and time. A zone of pydantic's comes back as the `datetime.timezone` that equals it."""

    def lower(value: Any, _: Lower) -> list[Any]:
        return [value.replace(tzinfo=None).isoformat(), value.fold, _lower_zone(value.tzinfo)]

    def lift(body: Any, _: Lift) -> Any:
        text, fold, zone = body
        return _load(type_name).fromisoformat(text).replace(fold=fold, tzinfo=_lift_zone(zone))

    return Tag(tag, lower, lift)


def _date() -> Tag:
    return Tag(
        "$date",
        lambda value, _: value.isoformat(),
        lambda body, _: _load("datetime.date").fromisoformat(body),
    )


_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")

_BY_TYPE: dict[str, Tag] = {
    "builtins.tuple": _sequence("builtins.tuple", "$tuple"),
    "builtins.set": _sequence("builtins.set", "$set", _sorted_items),
    "builtins.frozenset": _sequence("builtins.frozenset", "$frozenset", _sorted_items),
    "builtins.bytes": _bytes("builtins.bytes", "$bytes"),
    "builtins.bytearray": _bytes("builtins.bytearray", "$bytearray"),
    "builtins.complex": _numbers("builtins.complex", "$complex", "real", "imag"),
    "builtins.range": _numbers("builtins.range", "$range", "start", "stop", "step"),
    "collections.OrderedDict": _mapping("collections.OrderedDict", "$ordered"),
    "collections.Counter": _mapping("collections.Counter", "$counter"),
    "collections.deque": Tag("$deque", _lower_deque, _lift_deque),
    "datetime.datetime": _clock("datetime.datetime", "$datetime"),
    "datetime.time": _clock("datetime.time", "$time"),
    "datetime.date": _date(),
    "datetime.timedelta": _numbers(
        "datetime.timedelta", "$timedelta", "days", "seconds", "microseconds"
    ),
    "decimal.Decimal": _text("decimal.Decimal", "$decimal"),
    "fractions.Fraction": _text("fractions.Fraction", "$fraction"),
    "uuid.UUID": _text("uuid.UUID", "$uuid"),
}
for _path in _PATHS:  # Python 3.13 moved the classes into a private module
    _tag = _text(f"pathlib.{_path}", f"${_path}")
    _BY_TYPE |= {f"pathlib.{_path}": _tag, f"pathlib._local.{_path}": _tag}

_BY_NAME: dict[str, Tag] = {tag.name: tag for tag in _BY_TYPE.values()}
