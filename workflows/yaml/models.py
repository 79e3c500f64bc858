"""Python types from declared types: pydantic models for objects, Literal for one_of, and so on.

They are those that a person would have written: the same names, fields, bounds and defaults give the same JSON
Schema, hence the same contract.
"""

from __future__ import annotations

import datetime
import decimal
import itertools
import json
import re
import sys
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Annotated, Any, Final, ForwardRef, Literal, Union

import pydantic
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model

from carrara.engines.contract import Column, ColumnKind
from carrara.workflows.markers import Columns, Depth, JsonSchema, Pattern
from carrara.workflows.values import Outline, Table
from carrara.workflows.yaml import kinds
from carrara.workflows.yaml.definition import PipelineDef
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
    Shape,
    TableOf,
    Type,
)

_PYTHON: Final[Mapping[str, Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "decimal": decimal.Decimal,
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
    """The Python types of one pipeline, in a module of their own so that they can be found by name.

    Building them runs no code of the user.
    """

    def __init__(self, declared: Mapping[str, Field], module: str) -> None:
        self.declared, self.module = declared, module
        self.built: dict[str, type[BaseModel]] = {}
        self.anonymous: dict[str, tuple[ObjectOf, type[BaseModel]]] = {}
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
        names = dict(self.built)
        for model in [*self.built.values(), *(made for _, made in self.anonymous.values())]:
            if not model.__pydantic_complete__:
                model.model_rebuild(_types_namespace=names)

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
                items = list[self.annotation(item, name)]  # type: ignore[misc, valid-type]
                return _bounded(items, min_length=kind.min_items, max_length=kind.max_items)
            case MapOf(item):
                return dict[str, self.annotation(item, name)]  # type: ignore[misc]
            case Nullable(inner):
                return Union[self.annotation(inner, name), None]  # noqa: UP007 - a ForwardRef has no |
            case Named(other):
                return self.named(other)
            case Shape():
                return Any
            case ObjectOf():
                return self.unnamed(name, kind)
            case TableOf(columns):
                made = [Column(column, _COLUMNS[scalar]) for column, scalar in columns]
                bounds = Columns(*made, min_rows=kind.min_rows, max_rows=kind.max_rows)
                return Annotated[Table, bounds]
            case OutlineOf():
                return Annotated[Outline, Depth(kind.depth, kind.min_items, kind.max_items)]
            case SchemaOf(text):
                return Annotated[Any, JsonSchema.of(json.loads(text), name)]

    def named(self, name: str) -> Any:
        if name in self.built:
            return self.built[name]
        kind = self.declared[name].type
        return ForwardRef(name) if isinstance(kind, ObjectOf) else self.annotation(kind, name)

    def unnamed(self, name: str, kind: ObjectOf) -> type[BaseModel]:
        """The model of an object written in place; one name never means two of them."""
        free = name
        for number in itertools.count(2):
            known = self.anonymous.get(free)
            if free not in self.declared and (known is None or known[0] == kind):
                break
            free = f"{name}{number}"
        if known is None:
            known = self.anonymous[free] = (kind, self.model(free, kind))
        return known[1]

    def model(self, name: str, kind: ObjectOf) -> type[BaseModel]:
        fields: dict[str, Any] = {}
        for field in kind.fields:
            inner = self.annotation(field.type, name + camel(field.name))
            fields[field.name] = (inner, _field_info(field))
        config = ConfigDict(protected_namespaces=(), validate_default=True)
        with warnings.catch_warnings():  # a field called "copy" or "json" is fine here
            warnings.simplefilter("ignore", UserWarning)
            made: type[BaseModel] = create_model(
                name,
                __config__=config,
                __doc__=kind.description or None,
                __module__=self.module,
                **fields,
            )
        setattr(_module(self.module), name, made)
        return made


_known: dict[str, tuple[object, Models]] = {}


def models_of(pipeline: PipelineDef) -> Models:
    """The Python types of a pipeline; the same ones as long as its types are the same.

    Their module is named after the pipeline, so that what a journal stored is found again.
    """
    base = name = "carrara_pipeline_" + re.sub(r"\W", "_", pipeline.name)
    place = pipeline.path.resolve()
    for number in itertools.count(2):
        known = _known.get(name)
        if known is None or known[0] == place:
            break
        name = f"{base}_{number}"
    if known is None or known[1].declared != pipeline.types:
        known = _known[name] = (place, Models(pipeline.types, name))
    return known[1]


def _module(name: str) -> ModuleType:
    if name not in sys.modules:
        sys.modules[name] = ModuleType(name, "Models of the types that a pipeline declares.")
    return sys.modules[name]


def camel(name: str) -> str:
    """ "line_items" as "LineItems"."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def first_refusal(annotation: Any, value: Any) -> str | None:
    """Why `value`, as YAML or JSON gives it, is none of this type; None if it is one."""
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        return first_reason(error)
    return None


def first_reason(error: ValidationError) -> str:
    """The first thing that pydantic found wrong, with its place."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    message = first["msg"][:1].lower() + first["msg"][1:]
    return f"{place}: {message}" if place else message


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
