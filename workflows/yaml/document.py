"""The shape of a pipeline file: one pydantic model a mapping, a description on every key.

These models serve twice: they check a file, and the JSON Schema for editors is made from them. What a key
may hold beyond its shape (type notation, templates, names) is read by `notation`, `references` and `check`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

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
    raise ValueError("must be a name or a list of names")


Words = Annotated[
    list[str],
    BeforeValidator(_words),
    WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}, "minItems": 1}),
]


class Doc(BaseModel):
    """A mapping of the file: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _has_value(cls, value: object, info: ValidationInfo) -> object:
        if value is None and info.field_name not in ("default", "answer"):
            raise PydanticCustomError("no_value", "is empty")
        return value


class OutlineDoc(Doc):
    """A nested Markdown list."""

    depth: AtLeastOne = Field(3, description="How many levels the list may have.")
    min_items: Count = Field(1, description="The fewest items at the top level.")
    max_items: AtLeastOne | None = Field(None, description="The most items at the top level.")


class TypeDoc(Doc):
    """A type with its details. Exactly one of type, one_of, list, map, fields, table, outline, regex, schema."""

    of: TypeNotation = Field(
        None, alias="type", description="The type itself: str, int?, [Group], a type name."
    )
    one_of: list[Any] | None = Field(
        None,
        description="The value is one of these words.",
        json_schema_extra={"items": {"type": ["string", "integer"]}},
        min_length=1,
    )
    list_of: TypeNotation = Field(None, alias="list", description="A list; the type of its items.")
    map_of: TypeNotation = Field(
        None, alias="map", description="Text keys to values; the type of the values."
    )
    field_types: dict[str, TypeNotation] | None = Field(
        None, alias="fields", description="An object; its fields and their types.", min_length=1
    )
    table: Any = Field(
        None,
        description="A Markdown table: its columns, alone or with their types (str, int, float, bool, date).",
        json_schema_extra={
            "anyOf": [
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
                {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1},
            ]
        },
    )
    outline: OutlineDoc | None = Field(None, description="A nested Markdown list.")
    regex: str | None = Field(
        None, description="Text that this regular expression matches in full."
    )
    json_schema: dict[str, Any] | None = Field(
        None, alias="schema", description="A JSON Schema, given in place."
    )
    description: str | None = Field(None, description="What the value means; the model is told.")
    default: Anything = Field(None, description="The value of a field or input that is left out.")
    optional: bool = Field(
        False, description="The value may be null. The same as '?' after a type."
    )
    min: float | None = Field(None, description="The least number allowed.")
    max: float | None = Field(None, description="The greatest number allowed.")
    min_length: Count | None = Field(None, description="The fewest characters.")
    max_length: Count | None = Field(None, description="The most characters.")
    min_items: Count | None = Field(None, description="The fewest items of a list.")
    max_items: Count | None = Field(None, description="The most items of a list.")
    min_rows: Count | None = Field(None, description="The fewest rows of a table.")
    max_rows: Count | None = Field(None, description="The most rows of a table.")


class RepeatDoc(Doc):
    """Run the step again and again; `previous` is the value of the turn before, null in the first."""

    max: AtLeastOne = Field(description="The most turns; the value of the last one counts.")
    until: Condition = Field(
        None,
        description="Stop after a turn for which this holds. The step's own name is its value.",
    )


class ExampleDoc(Doc):
    """A question that was answered well; shown to the model before the real one."""

    inputs: dict[str, Anything] = Field(description="Values for the names in the prompt.")
    answer: Anything = Field(description="The right answer, as `returns` types it.")


class LimitsDoc(Doc):
    """What may be asked of one engine."""

    concurrency: AtLeastOne | None = Field(None, description="The most calls at once.")
    requests_per_s: Annotated[float, Field(gt=0)] | None = Field(
        None, description="The most calls that may begin in a second."
    )
    tokens_per_min: Annotated[float, Field(gt=0)] | None = Field(
        None, description="The most tokens, prompt and answer together, in a minute."
    )


ContractKind = Literal["text", "choice", "json", "table", "outline", "regex"]
Share = Annotated[float, Field(ge=0, le=1)]


class RuleDoc(Doc):
    """For calls that fit, these engines in order. Without kinds, tags and length it fits every call."""

    engines: Words = Field(description="The engines to ask, the first one first.")
    kinds: list[ContractKind] | None = Field(
        None, description="Fits answers of one of these kinds."
    )
    tags: Words | None = Field(None, description="Fits steps with one of these tags.")
    prompt_tokens_over: Count | None = Field(
        None, description="Fits prompts estimated longer than this."
    )
    reason: str | None = Field(None, description="Shown with every decision made by this rule.")


class AcceptDoc(Doc):
    """The confidence, from 0 to 1, that an answer needs to be taken while another engine could be asked."""

    overall: Share = Field(0.5, description="Of the answer as a whole.")
    field: Share = Field(0.3, description="Of each of its parts.")


class PolicyDoc(Doc):
    """The routing policy; what is left out is as in the default policy."""

    name: str | None = Field(None, description="The name of the policy, shown in reports.")
    rules: list[RuleDoc] | None = Field(
        None, description="The first rule that fits a call names its engines."
    )
    accept: dict[ContractKind, AcceptDoc] | None = Field(
        None, description="The confidence that is needed, by kind of answer."
    )
    renoise: Count | None = Field(
        None, description="How often doubtful fields are re-noised before another engine is asked."
    )
    again: Count | None = Field(
        None, description="How often the last engine is asked again, with the faults of its answer."
    )
    max_attempts: AtLeastOne | None = Field(None, description="The most calls for one answer.")
    give_up_after: AtLeastOne | None = Field(
        None,
        description="After so many rejections in a row, an engine is passed over for the step.",
    )
    probe_every: AtLeastOne | None = Field(
        None, description="An engine that was passed over is tried again every so many calls."
    )
    max_wait_s: Annotated[float, Field(ge=0)] | None = Field(
        None, description="The longest wait, in seconds, that a busy engine may ask for."
    )


class StepDoc(Doc):
    """One step. Exactly one of llm, python and use says what it does."""

    description: str | None = Field(None, description="What the step is for; shown in plans.")
    llm: str | None = Field(
        None, description="Ask a model: the prompt, a Jinja template. Names in it make the edges."
    )
    python: str | None = Field(
        None,
        description="Call a Python function: 'package.module:name', or './file.py:name' beside this file.",
    )
    use: str | None = Field(
        None, description="Run another pipeline: the path of its file, beside this one."
    )
    arguments: dict[str, Anything] | None = Field(
        None,
        alias="with",
        description="Arguments of `python` or inputs of `use`. '{{ x }}' alone gives the value itself.",
    )
    system: str | None = Field(
        None, description="The system message, a Jinja template. Only with llm."
    )
    returns: TypeNotation = Field(None, description="The type of the value; text if left out.")
    for_each: Items = Field(
        None, description="Run once for each item of this list, side by side; the value is a list."
    )
    item_name: str = Field(
        "item", alias="as", description="The name of the item in for_each.", pattern=NAME
    )
    limit: AtLeastOne | None = Field(
        None, description="The most items at once. Only with for_each."
    )
    when: Condition = Field(
        None, description="Run only if this holds; the value of a skipped step is null."
    )
    repeat: RepeatDoc | None = Field(None, description="Run in turns until a condition holds.")
    engine: str | None = Field(
        None, description="The engine to ask; 'auto' lets the policy choose."
    )
    max_tokens: AtLeastOne | None = Field(None, description="The longest answer, in tokens.")
    max_steps: AtLeastOne | None = Field(
        None, description="The most denoising steps of a diffusion engine."
    )
    stop: Words | None = Field(None, description="Free text ends before the first of these.")
    examples: list[ExampleDoc] | None = Field(
        None, description="Questions with their right answers, shown before the prompt."
    )
    temperature: Annotated[float, Field(ge=0)] | None = Field(
        None, description="0 is greedy and repeatable."
    )
    top_p: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="Sample from the likeliest tokens with this much probability together."
    )
    seed: int | None = Field(None, description="Makes an answer with a temperature repeatable.")
    tags: list[str] | None = Field(
        None, description="Words for the routing policy, such as 'reasoning'."
    )
    repair: Literal["off", "structural", "infill", "escalate"] | None = Field(
        None, description="How far to go to mend a crooked answer."
    )
    validators: list[str] | None = Field(
        None,
        description="Python functions that get the value; one that raises ValueError refuses it.",
    )
    retries: Count | None = Field(None, description="Further attempts after the first one failed.")
    timeout: Seconds | None = Field(None, description="The longest attempt: seconds, '30s', '2m'.")
    concurrency: AtLeastOne | None = Field(None, description="The most of this step at once.")
    cache: bool | None = Field(None, description="false: never take the result of an earlier run.")


class PipelineDoc(Doc):
    """A Carrara pipeline."""

    name: str | None = Field(
        None, description="The name of the pipeline; that of the file if left out."
    )
    description: str | None = Field(None, description="What the pipeline does.")
    inputs: dict[str, TypeNotation] | None = Field(
        None, description="What the pipeline is given: name to type."
    )
    types: dict[str, TypeNotation] | None = Field(
        None, description="Types with a name, for inputs, fields and `returns`."
    )
    engines: dict[str, LimitsDoc] | None = Field(
        None, description="Limits of the engines this pipeline asks, by name."
    )
    policy: PolicyDoc | None = Field(None, description="How engines are chosen.")
    steps: dict[str, StepDoc] | None = Field(
        None, description="The steps: name to step. Their order does not matter.", min_length=1
    )
    outputs: dict[str, Anything] | None = Field(
        None, description="What the pipeline gives: name to expression. '{{ x }}' keeps the type."
    )
