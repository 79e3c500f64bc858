"""What the document models are made of: the kinds of values in a file, and the base of every mapping."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from carrara.engines.diffusion.rule_table import RULES
from carrara.workflows.chunks.merge import RULES as MERGE_RULES
from carrara.workflows.yaml import durations

NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"

TypeNotation = Annotated[Any, WithJsonSchema({"x-is": "TypeNotation"})]
"""Any type, as `notation` reads it; the schema of files says which."""
Anything = Annotated[Any, WithJsonSchema({})]
Seconds = Annotated[
    float,
    BeforeValidator(durations.seconds),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": durations.PATTERN},
            ]
        }
    ),
]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]


def _expression(written: object) -> object:
    if isinstance(written, str | bool):
        return written
    raise ValueError('must be an expression in quotes, such as "{{ score > 3 }}", or true or false')


Condition = Annotated[
    Any, AfterValidator(_expression), WithJsonSchema({"type": ["string", "boolean"]})
]


def _items(written: object) -> object:
    if isinstance(written, str | list):
        return written
    raise ValueError('must be an expression that gives a list, such as "{{ recipes }}", or a list')


Items = Annotated[Any, AfterValidator(_items), WithJsonSchema({"type": ["string", "array"]})]


def _words(written: object) -> object:
    if isinstance(written, str):
        return [written]
    if isinstance(written, list) and written and all(isinstance(word, str) for word in written):
        return written
    if written == []:
        raise ValueError("must hold at least one name")
    raise ValueError("must be a name or a list of names")


Words = Annotated[
    list[str],
    BeforeValidator(_words),
    WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}, "minItems": 1}),
]


def _rule(written: object) -> object:
    if isinstance(written, str | dict):
        return written
    raise ValueError(
        'must be the name of a commit rule or a mapping, such as "{name: klass, drift: 0.05}"'
    )


RuleNotation = Annotated[
    Any,
    AfterValidator(_rule),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": list(RULES)},
                *(
                    {
                        "type": "object",
                        "properties": {
                            "name": {"const": name},
                            **{key: parameter.json_schema for key, parameter in table.items()},
                        },
                        "required": ["name"],
                        "additionalProperties": False,
                    }
                    for name, table in RULES.items()
                ),
            ]
        }
    ),
]


def _merge(written: object) -> object:
    if isinstance(written, str):
        written = {USUAL: written}
    if not isinstance(written, dict):
        raise ValueError("must be a rule, or a mapping of fields to rules, such as {goods: all}")
    for field, rule in written.items():
        if rule not in MERGE_RULES and (field, rule) != (USUAL, USUAL_RULE):
            known = MERGE_RULES if field != USUAL else (USUAL_RULE, *MERGE_RULES)
            raise ValueError(f"no merge rule {rule!r} for {field!r}. There are {', '.join(known)}")
    return written


USUAL = "*"
"""Stands for all fields that have no merge rule of their own."""
USUAL_RULE = "usual"
"""Lists behind each other without repeated items, of everything else the first."""
MergeNotation = Annotated[
    Any,
    BeforeValidator(_merge),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": [USUAL_RULE, *MERGE_RULES]},
                {
                    "type": "object",
                    "properties": {USUAL: {"enum": [USUAL_RULE, *MERGE_RULES]}},
                    "additionalProperties": {"enum": list(MERGE_RULES)},
                    "minProperties": 1,
                },
            ]
        }
    ),
]


class Doc(BaseModel):
    """A mapping of the file: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    nullable: ClassVar[tuple[str, ...]] = ("default", "answer")
    """The keys that may hold null; of all others it is taken for a value that was forgotten."""

    called: ClassVar[str] = "the pipeline"
    """The whole of a file of this form, for a sentence."""

    @field_validator("*", mode="before")
    @classmethod
    def _has_value(cls, value: object, info: ValidationInfo) -> object:
        if value is None and info.field_name not in cls.nullable:
            raise PydanticCustomError("no_value", "is empty")
        return value
