"""Reading `types:` and `inputs:`, and the rules that types must keep among themselves."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterator, Mapping

from carrara.workflows.yaml.document_base import NAME
from carrara.workflows.yaml.kinds import (
    SCALARS,
    Field,
    ListOf,
    MapOf,
    Named,
    Nullable,
    ObjectOf,
    Type,
)
from carrara.workflows.yaml.notation import TypeReader
from carrara.workflows.yaml.notes import Notes
from carrara.workflows.yaml.source import Location


def read_types(raw: Mapping[str, object], reader: TypeReader) -> dict[str, Field]:
    """The declared types by name; those with a mistake are left out once it is noted."""
    notes = reader.notes
    found: dict[str, Field] = {}
    for name, notation in raw.items():
        where: Location = ("types", name)
        if name in SCALARS:
            notes.at_key(where, f"'{name}' is built in, a type cannot be called so")
        elif not re.match(NAME, name) or keyword.iskeyword(name):
            notes.at_key(where, f"'{name}' cannot name a type: use letters, digits and _")
        field = reader.field(name, notation, where)
        if field is not None:
            found[name] = field
    _note_endless(found, notes)
    return found


def _note_endless(found: dict[str, Field], notes: Notes) -> None:
    """Note types that stand for themselves, or that hold themselves without an end."""
    for name in list(found):
        if _reaches(name, name, found, _aliases):
            notes.at_key(
                ("types", name),
                f"type '{name}' stands for itself. Only the fields of an object can refer back",
            )
            del found[name]
        elif _reaches(name, name, found, _must_hold):
            notes.at_key(
                ("types", name),
                f"type '{name}' holds itself without an end: make the field optional ('{name}?') "
                f"or a list ([{name}])",
            )
            del found[name]


def _reaches(
    start: str, goal: str, found: Mapping[str, Field], step: Callable[[Type], Iterator[str]]
) -> bool:
    seen: set[str] = set()
    todo = [start]
    while todo:
        field = found.get(todo.pop())
        for name in step(field.type) if field is not None else ():
            if name == goal:
                return True
            if name not in seen:
                seen.add(name)
                todo.append(name)
    return False


def _aliases(kind: Type) -> Iterator[str]:
    """Names reached without passing through an object."""
    match kind:
        case Named(name):
            yield name
        case Nullable(inner) | ListOf(inner) | MapOf(inner):
            yield from _aliases(inner)


def _must_hold(kind: Type) -> Iterator[str]:
    """Names of which every value of `kind` holds a value."""
    match kind:
        case Named(name):
            yield name
        case ObjectOf(fields):
            for field in fields:
                yield from _must_hold(field.type)
