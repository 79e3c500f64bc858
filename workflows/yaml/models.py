"""Python types from declared types: pydantic models for objects, Literal for one_of, and so on.

They are those that a person would have written: the same names, fields, bounds and defaults give the same JSON
Schema, hence the same contract.
"""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Mapping
from typing import Annotated, Any, Final, ForwardRef, Literal, Optional

import pydantic
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model

from carrara.engines.contract import Column, ColumnKind
from carrara.workflows.markers import Columns, Depth, JsonSchema, Pattern
from carrara.workflows.values import Outline, Table
from carrara.workflows.yaml import kinds
from carrara.workflows.yaml.kinds import (
    MISSING,
    Field,
    ListOf,
    MapOf,
    Named,
    Nullable,
    ObjectOf,
    OneOf,
    OutlineOf,
    Scalar,
    SchemaOf,
    TableOf,
    Type,
)

_PYTHON: Final[Mapping[str, Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "date": datetime.date,
    "datetime": datetime.datetime,
    "any": Any,
}
_COLUMNS: Final[Mapping[str, ColumnKind]] = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "date": "date",
}


class Models:
    """The Python types of one pipeline. Building them runs no code of the user."""

    def __init__(self, declared: Mapping[str, Field]) -> None:
        self.declared = declared
        self.built: dict[str, type[BaseModel]] = {}
        self.anonymous: list[type[BaseModel]] = []
        for name, field in declared.items():
            if isinstance(field.type, ObjectOf):
                self.built[name] = self.model(name, field.type)
        self.complete()

    def of(self, kind: Type, name: str) -> Any:
        """The annotation for `kind`; objects without a name of their own are called after `name`."""
        found = self.annotation(kind, camel(name))
        self.complete()
        return found

    def complete(self) -> None:
        """Resolve the names of models that were not there yet when they were referred to."""
        for model in [*self.built.values(), *self.anonymous]:
            model.model_rebuild(_types_namespace=dict(self.built))
        self.anonymous.clear()

    def annotation(self, kind: Type, name: str) -> Any:
        match kind:
            case Scalar():
                return _bounded(
                    _PYTHON[kind.name],
                    ge=kind.min,
                    le=kind.max,
                    min_length=kind.min_length,
                    max_length=kind.max_length,
                )
            case OneOf(options):
                return Literal[options]
            case kinds.Pattern(regex):
                return Annotated[str, Pattern(regex)]
            case ListOf(item):
                items = list[self.annotation(item, name)]  # type: ignore[misc]
                return _bounded(items, min_length=kind.min_items, max_length=kind.max_items)
            case MapOf(item):
                return dict[str, self.annotation(item, name)]  # type: ignore[misc]
            case Nullable(inner):
                return Optional[self.annotation(inner, name)]  # a ForwardRef knows no "|"
            case Named(other):
                return self.named(other)
            case ObjectOf():
                model = self.model(name, kind)
                self.anonymous.append(model)
                return model
            case TableOf(columns):
                made = [Column(column, _COLUMNS[scalar]) for column, scalar in columns]
                bounds = Columns(*made, min_rows=kind.min_rows, max_rows=kind.max_rows)
                return Annotated[Table, bounds]
            case OutlineOf():
                return Annotated[Outline, Depth(kind.depth, kind.min_items, kind.max_items)]
            case SchemaOf(text):
                return Annotated[Any, JsonSchema(text, name)]

    def named(self, name: str) -> Any:
        if name in self.built:
            return self.built[name]
        kind = self.declared[name].type
        return ForwardRef(name) if isinstance(kind, ObjectOf) else self.annotation(kind, name)

    def model(self, name: str, kind: ObjectOf) -> type[BaseModel]:
        fields: dict[str, Any] = {}
        for field in kind.fields:
            inner = self.annotation(field.type, name + camel(field.name))
            fields[field.name] = (inner, _field_info(field))
        config = ConfigDict(protected_namespaces=(), validate_default=True)
        with warnings.catch_warnings():  # a field called "copy" or "json" is fine here
            warnings.simplefilter("ignore", UserWarning)
            return create_model(
                name,
                __config__=config,
                __doc__=kind.description or None,
                __module__=__name__,
                **fields,
            )


def camel(name: str) -> str:
    """"line_items" as "LineItems"."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def first_refusal(annotation: Any, value: Any) -> str | None:
    """Why `value`, as YAML or JSON gives it, is none of this type; None if it is one."""
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        message = first["msg"][:1].lower() + first["msg"][1:]
        return f"{place}: {message}" if place else message
    return None


def _bounded(annotation: Any, **bounds: Any) -> Any:
    given = {key: bound for key, bound in bounds.items() if bound is not None}
    return Annotated[annotation, pydantic.Field(**given)] if given else annotation


def _field_info(field: Field) -> Any:
    default = field.default
    if default is MISSING:
        default = None if isinstance(field.type, Nullable) else ...
    if field.description:
        return pydantic.Field(default, description=field.description)
    return default
