"""Made-up values of a type, with which a workflow is traced: the simplest one that lets the path go on."""

from __future__ import annotations

import dataclasses
import datetime
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from carrara.workflows.markers import Columns
from carrara.workflows.types import unaliased
from carrara.workflows.values import Outline, OutlineItem, Rows, Table

TEXT = "sample"
_DEEPEST = 6

_SIMPLE: Mapping[Any, Any] = {
    str: TEXT,
    bool: True,
    int: 1,
    float: 1.0,
    Decimal: Decimal(1),
    bytes: b"sample",
    datetime.date: datetime.date(2000, 1, 1),
    datetime.datetime: datetime.datetime(2000, 1, 1),
    datetime.time: datetime.time(12),
    datetime.timedelta: datetime.timedelta(1),
    type(None): None,
    list: [TEXT],
    tuple: (TEXT,),
    set: {TEXT},
}


def sample(annotation: Any, depth: int = 0) -> Any:
    """A value of the type: lists and dicts hold one item, a choice is its first option, an optional value is
    there. Of an unknown type it is an `Anything`. Validators of models are not run."""
    annotation = unaliased(annotation)
    if depth > _DEEPEST:
        return None
    if get_origin(annotation) is Annotated:
        base, *marks = get_args(annotation)
        return _table(marks, depth) if base is Table else sample(base, depth)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is not None:
        return _generic(origin, arguments, depth)
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    return _instance(annotation, depth) if isinstance(annotation, type) else Anything()


def _generic(origin: Any, arguments: tuple[Any, ...], depth: int) -> Any:
    if origin is Literal:
        return arguments[0]
    if origin in (Union, types.UnionType):
        return sample(arguments[0], depth)
    if not isinstance(origin, type):
        return Anything()
    if issubclass(origin, tuple):
        return tuple(sample(a, depth + 1) for a in arguments if a is not Ellipsis)
    if issubclass(origin, Mapping):
        key, value = (sample(argument, depth + 1) for argument in arguments)
        return AnyKey({key: value})
    if issubclass(origin, Set):
        return {sample(arguments[0], depth + 1)}
    if issubclass(origin, Sequence) or origin in (Iterator, typing.Iterable):
        return [sample(arguments[0], depth + 1)]
    return _instance(origin, depth)


def _table(marks: Sequence[Any], depth: int) -> Table[Any]:
    row = next((mark.row for mark in marks if isinstance(mark, Rows)), None)
    columns = next((mark.columns for mark in marks if isinstance(mark, Columns)), ())
    if row is not None:
        return Table.of([sample(row, depth + 1)])
    return Table.of([{column.name: TEXT for column in columns}])


def _instance(kind: type, depth: int) -> Any:
    if issubclass(kind, Enum):
        return next(iter(kind))
    if kind is Outline:
        return Outline((OutlineItem(TEXT),))
    if kind is Table:
        return Table.of([AnyKey({TEXT: TEXT})])
    if kind is dict:
        return AnyKey({TEXT: Anything()})
    for base, value in _SIMPLE.items():
        if issubclass(kind, base):
            make: Callable[[Any], Any] = kind
            return make(value) if base in (str, int, float) else value
    if _is_typed_dict(kind) or dataclasses.is_dataclass(kind) or hasattr(kind, "model_fields"):
        return _filled(kind, depth)
    return Anything()


def _filled(kind: Any, depth: int) -> Any:
    """An instance with a sample in every field, made without the constructor's checks."""
    hints = get_type_hints(kind, include_extras=True)
    if _is_typed_dict(kind):
        return {name: sample(hint, depth + 1) for name, hint in hints.items()}
    if hasattr(kind, "model_fields"):
        values = {n: sample(hints.get(n, Any), depth + 1) for n in kind.model_fields}
        return kind.model_construct(**values)
    made = object.__new__(kind)
    for field in dataclasses.fields(kind):
        object.__setattr__(made, field.name, sample(hints.get(field.name, Any), depth + 1))
    return made


def _is_typed_dict(kind: Any) -> bool:
    return hasattr(kind, "__required_keys__")  # that of typing_extensions, too


class AnyKey(dict[Any, Any]):
    """A dict of one item, whose value every other key has as well."""

    def __missing__(self, key: Any) -> Any:
        return next(iter(self.values()))

    def get(self, key: Any, default: Any = None) -> Any:
        return self[key]


class Anything(str):
    """A value of unknown type that goes along with most of what is done with one.

    It is a text because that is what most such values are in the end: JSON, pydantic and `join` take it.
    """

    def __new__(cls) -> Anything:
        return super().__new__(cls, TEXT)

    def __getattribute__(self, name: str) -> Any:
        return super().__getattribute__(name) if name.startswith("__") else self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def __getitem__(self, key: Any) -> Any:
        return self

    def __iter__(self) -> Iterator[Any]:
        yield self

    def __len__(self) -> int:
        return 1

    def __bool__(self) -> bool:
        return True

    def __contains__(self, item: Any) -> bool:
        return True

    def __int__(self) -> int:
        return 1

    def __index__(self) -> int:
        return 1

    def __float__(self) -> float:
        return 1.0

    def __str__(self) -> str:
        return TEXT

    def _same(self, *others: Any) -> Any:
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _same
    __truediv__ = __rtruediv__ = __mod__ = __or__ = __and__ = __neg__ = _same

    def _yes(self, other: Any) -> bool:
        return True

    __lt__ = __le__ = __gt__ = __ge__ = _yes
