"""The shape of a pipeline file: one pydantic model a mapping, a description on every key.

These models serve twice: they check a file, and the JSON Schema for editors is made from them. What a key may
hold beyond its shape (type notation, templates, names) is read by the modules called `read_…`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from carrara.workflows.chunks.split import LEAST_TOKENS
from carrara.workflows.yaml.document_base import (
    NAME,
    Anything,
    AtLeastOne,
    Condition,
    Count,
    Doc,
    Items,
    MergeNotation,
    RuleNotation,
    Seconds,
    TypeNotation,
    Words,
)
from carrara.workflows.yaml.policy_document import PolicyDoc


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
    max_length: AtLeastOne | None = Field(None, description="The most characters.")
    min_items: Count | None = Field(None, description="The fewest items of a list.")
    max_items: AtLeastOne | None = Field(None, description="The most items of a list.")
    min_rows: Count | None = Field(None, description="The fewest rows of a table.")
    max_rows: AtLeastOne | None = Field(None, description="The most rows of a table.")


class SplitDoc(Doc):
    """Run the step once for each part of a long text, side by side; the value is a list unless `merge` is given."""

    text: str = Field(description="An expression that gives the text, such as '{{ text }}'.")
    tokens: Annotated[int, Field(ge=LEAST_TOKENS)] = Field(
        2000,
        description="The most tokens of a part, about; cut before headings, between paragraphs.",
    )
    overlap: Count = Field(
        0,
        description="So many tokens of the part before stand at the beginning of each part again.",
    )


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


class ServerPriceDoc(Doc):
    """US dollars for a million tokens, as a server or service asks them."""

    input: Annotated[float, Field(ge=0)] = Field(0.0, description="Of the prompt.")
    cached_input: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Of the prompt, from the cache; as the others if left out."
    )
    output: Annotated[float, Field(ge=0)] = Field(0.0, description="Of the answer.")
    as_of: str | None = Field(None, description="When it was looked up, such as 2026-01.")


class EngineDoc(Doc):
    """An engine of this pipeline: what may be asked of it, and with `preset` a server or service that is asked."""

    preset: str | None = Field(
        None, description="A server or service: a name that `carrara engines` lists, or a file."
    )
    model: str | None = Field(None, description="The model there. Only with preset.")
    base_url: str | None = Field(
        None, description="Where it is, such as http://host:8000/v1. Only with preset."
    )
    key_env: str | None = Field(
        None, description="The environment variable that holds the key. Only with preset."
    )
    key_header: str | None = Field(
        None,
        description="The header that carries the key, such as api-key; else that of the wire format. Only with preset.",
    )
    context_tokens: AtLeastOne | None = Field(
        None, description="How many tokens prompt and answer may have. Only with preset."
    )
    price: ServerPriceDoc | None = Field(
        None,
        description="What it costs; else as in the preset, if model and base_url are. Only with preset.",
    )
    concurrency: AtLeastOne | None = Field(None, description="The most calls at once.")
    requests_per_s: Annotated[float, Field(gt=0)] | None = Field(
        None, description="The most calls that may begin in a second."
    )
    tokens_per_min: Annotated[float, Field(gt=0)] | None = Field(
        None, description="The most tokens, prompt and answer together, in a minute."
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
    item_name: str | None = Field(
        None,
        alias="as",
        description="The name of the item in for_each (item if left out), or of the part in split (part).",
        pattern=NAME,
    )
    limit: AtLeastOne | None = Field(
        None, description="The most items at once. Only with for_each or split."
    )
    split: SplitDoc | None = Field(
        None, description="Run once for each part of a long text: part.text, part.headings."
    )
    merge: MergeNotation = Field(
        None,
        description="Make one value of those of all parts: a rule (first, all, longest, ...), or rules by field.",
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
    rule: RuleNotation = Field(
        None, description="The commit rule of a diffusion engine: a name, or {name, parameters}."
    )
    validators: list[str] | None = Field(
        None,
        description="Python functions that get the value; one that raises ValueError refuses it.",
    )
    retries: Count | None = Field(None, description="Further attempts after the first one failed.")
    timeout: Seconds | None = Field(None, description="The longest attempt: seconds, '30s', '2m'.")
    concurrency: AtLeastOne | None = Field(None, description="The most of this step at once.")
    inline: bool | None = Field(
        None,
        description="true: a sync function of microseconds, run without a thread. Only python.",
    )
    isolated: bool | None = Field(
        None,
        description="true: run in a process of its own, which may crash and which a timeout ends. Only python.",
    )
    cache: bool | None = Field(None, description="false: never take the result of an earlier run.")


class ScoreDoc(Doc):
    """How `carrara eval` compares an answer with gold."""

    rule: Literal["fields", "label", "number", "answers", "cells", "form"] = Field(
        description="fields: JSON, field by field. label: the whole answer. number: the last number. answers: "
        "a set of short answers. cells: a table, list, CSV or JSON text, cell by cell. form: that, well-formed."
    )
    unordered: list[str] | None = Field(
        None, description="Keys whose lists mean the same in any order. Only with fields."
    )


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
    engines: dict[str, EngineDoc] | None = Field(
        None, description="The engines this pipeline asks, by name: limits, and servers of its own."
    )
    policy: PolicyDoc | None = Field(None, description="How engines are chosen.")
    score: ScoreDoc | None = Field(
        None, description="How answers are scored by `carrara eval`; by their type if left out."
    )
    steps: dict[str, StepDoc] | None = Field(
        None, description="The steps: name to step. Their order does not matter.", min_length=1
    )
    outputs: dict[str, Anything] | None = Field(
        None, description="What the pipeline gives: name to expression. '{{ x }}' keeps the type."
    )
