"""A first pipeline for a job: written from a JSON Schema, or from a few texts with what is wanted of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from carrara.engines.errors import CarraraError
from carrara.workflows.inferring import EMPTY_THROUGHOUT, GUESSES, inferred
from carrara.workflows.labelled import GOLD
from carrara.workflows.places import FileError, text_in
from carrara.workflows.yaml.load import loads
from carrara.workflows.yaml.mistakes import PipelineError
from carrara.workflows.yaml.notation import KIND_KEYS
from carrara.workflows.yaml.schema_faults import schema_faults

EXAMPLES = 3
_TAKES = (
    "A job begins with a JSON Schema (.json), or with example rows (.jsonl), each "
    '{"text": the text, "gold": what is wanted of it}'
)
_TYPED = ("type", "properties", "items", "enum", "$ref")
_SPREAD = ("allOf", "anyOf", "oneOf", "not", "if", "const")
_TOKENS = 512
_SCALARS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}
_BOUNDS = {
    "minimum": "min", "maximum": "max", "minLength": "min_length", "maxLength": "max_length", "minItems": "min_items",
    "maxItems": "max_items",
}  # fmt: skip


class StartError(FileError):
    """Nothing can be started from this file."""


@dataclass(frozen=True, slots=True)
class Start:
    """`schema` of the answer, the name of the input, and examples (text, wanted)."""

    schema: Mapping[str, Any]
    text: str = "text"
    examples: Sequence[tuple[str, Any]] = ()

    @property
    def guesses(self) -> list[str]:
        """What the examples do not show of their fields, a sentence for each."""
        return [f"{at.removeprefix('.')} {why}" for at, why in _guesses(self.schema, "")]


def _guesses(schema: Any, at: str) -> Iterator[tuple[str, str]]:
    if not isinstance(schema, Mapping):  # true and false are schemas, too
        return
    why = schema.get("$comment")
    if why in GUESSES:
        at_list = at.removesuffix("[]") if why == EMPTY_THROUGHOUT else at
        yield at_list or "the answer", why
    for name, part in schema.get("properties", {}).items():
        yield from _guesses(part, f"{at}.{name}")
    yield from _guesses(schema.get("items"), f"{at}[]")


def read_start(path: Path) -> Start:
    """A JSON Schema (.json), or rows (.jsonl) with one text and `gold`, what is wanted of it.

    Raises:
        StartError: names the file, and the line, and what is wrong there.
    """
    content = text_in(path, StartError)
    if path.suffix in (".jsonl", ".ndjson"):
        return _from_rows(content, path)
    try:
        found = json.loads(content)
    except ValueError as error:
        what = "empty" if not content.strip() else f"not JSON: {error}"
        raise StartError(f"{path}: {what}. {_TAKES}") from error
    if not isinstance(found, dict):
        raise StartError(f"{path}: not a JSON Schema. {_TAKES}")
    if not found.keys() & set(_TYPED):
        raise StartError(f"{path}: {_untyped(found)}. {_TAKES}")
    for place, fault in schema_faults(found):
        raise StartError(f"{path}: {fault}, at /{'/'.join(map(str, place))}")
    return Start(found)


def _untyped(schema: Mapping[str, Any]) -> str:
    """Why no types can be made of a schema that has none of `_TYPED` at its top."""
    *others, last = map(repr, _TYPED)
    lacks = f"no {', '.join(others)} or {last} at the top of the schema, of which the types of a pipeline are made"
    spread = [repr(key) for key in _SPREAD if key in schema]
    return f"{lacks}; write what {' and '.join(spread)} says there" if spread else lacks


def _from_rows(content: str, path: Path) -> Start:
    examples: list[tuple[str, Any]] = []
    name = ""
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise StartError(f"{where}: not JSON: {error}. {_TAKES}") from error
        if not isinstance(row, dict) or GOLD not in row:
            raise StartError(f"{where}: an example without {GOLD!r}. {_TAKES}")
        texts = [
            each for each, part in row.items() if isinstance(part, str) and each not in (GOLD, "id")
        ]
        name = name or max(texts, key=lambda each: len(row[each]), default="")
        if not name or not isinstance(row.get(name), str):
            what = f"no text under {name!r}, as in the rows before" if name else "no text in it"
            raise StartError(f"{where}: {what}. {_TAKES}")
        examples.append((row[name], row[GOLD]))
    if not examples:
        raise StartError(f"{path}: empty, there is no example in it. {_TAKES}")
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        raise StartError(f"{path}: {name!r} is no name for an input: letters, digits and _")
    if not _can_be_input(name):
        raise StartError(
            f"{path}: {name!r} is no name for an input, it means something else in a pipeline; "
            'give the text another name, as in {"text": …}'
        )
    return Start(inferred([wanted for _, wanted in examples]), name, examples)


def _can_be_input(name: str) -> bool:
    try:
        loads(_composed(Start({}, name), "job", {}, "str"))
    except CarraraError:
        return False
    return True


def pipeline_text(start: Start, name: str) -> str:
    """The pipeline as YAML with comments; it is valid. A schema that the notation of types cannot say stands in it as a
    schema.

    Raises:
        StartError: no valid pipeline can be made, with the reason.
    """
    types = _Types(start.schema)
    text = _composed(start, name, types.declared, types.root)
    try:
        loads(text)
    except CarraraError:
        text = _composed(start, name, {}, {"schema": dict(start.schema)})
        try:
            loads(text)
        except PipelineError as error:
            why = "; ".join(mistake.message for mistake in error.mistakes)
            raise StartError(f"no pipeline can be made of it: {why}") from error
    return text


@dataclass
class _Types:
    """The types of a schema in the notation of pipelines; objects are declared by name."""

    schema: Mapping[str, Any]
    declared: dict[str, Any] = field(default_factory=dict)
    root: Any = None

    def __post_init__(self) -> None:
        self._named: dict[str, str] = {}
        self._at_work: list[str] = []
        self.root = self._of(self.schema, "Answer")

    def _of(self, schema: Any, name: str) -> Any:
        if schema is False:
            raise StartError(f"the schema allows nothing for {name}: false is met by no value")
        if not isinstance(schema, Mapping):  # true
            return "any"
        reference = schema.get("$ref")
        if reference is not None:
            return self._referred(str(reference), name)
        bare, nullable = _bare(schema)
        found = self._of(bare, name) if "$ref" in bare else self._plain(bare, name)
        return _optional(found) if nullable else found

    def _referred(self, reference: str, name: str) -> Any:
        """What a reference stands for; an object that it names is declared once, and may hold itself."""
        if reference in self._named:
            return self._named[reference]
        if reference in self._at_work or not reference.startswith("#"):
            raise StartError(
                f"a pipeline's types cannot say what the schema means by {reference!r}"
            )
        found: Any = self.schema
        for part in reference.split("/")[1:]:
            found = found.get(part) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping):
            raise StartError(f"the schema has no {reference!r}")
        self._at_work.append(reference)
        try:
            own = self._free(_camel(reference.rpartition("/")[2]) if "/" in reference else name)
            if found.get("properties") and found.get("type", "object") == "object":
                self._named[reference] = own
            return self._of(found, own)
        finally:
            self._at_work.pop()

    def _free(self, name: str) -> str:
        """The name, or one like it that no type has."""
        while name in self.declared:
            name += "_"
        return name

    def _plain(self, schema: Mapping[str, Any], name: str) -> Any:
        kind = schema.get("type")
        bounds = {ours: schema[theirs] for theirs, ours in _BOUNDS.items() if theirs in schema}
        if "enum" in schema:
            return {"one_of": list(schema["enum"])}
        if kind == "array":
            item = self._of(schema.get("items", True), _singular(name))
            return {"list": item, **bounds} if bounds else [item]
        if kind == "object" or "properties" in schema:
            return self._object(schema, name)
        if kind == "string" and schema.get("format") in ("date", "date-time"):
            return "date" if schema["format"] == "date" else "datetime"
        scalar = _SCALARS.get(str(kind), "any")
        more = {**bounds, **_described(schema)} if scalar != "any" else {}
        return {"type": scalar, **more} if more else scalar

    def _object(self, schema: Mapping[str, Any], name: str) -> Any:
        properties = schema.get("properties")
        if not properties:
            inner = schema.get("additionalProperties")
            return {"map": self._of(inner if isinstance(inner, Mapping) else {}, name)}
        own = self._free(name)
        self.declared[own] = None  # its place before those inside
        required = schema.get("required", list(properties))
        fields = CommentedMap()
        for key, part in properties.items():
            found = self._of(part, _camel(key))
            if key not in required:
                found = _optional(found)
            fields[key] = found
        within = bool(set(fields) & set(KIND_KEYS))
        for key, part in properties.items():
            why = _guess_of(part)
            if why:
                fields.yaml_set_comment_before_after_key(key, before=why, indent=6 if within else 4)
        self.declared[own] = {"fields": fields} if within else fields
        return own


def _guess_of(schema: Any) -> str:
    """What the examples do not show of a field, or of the items of a list, "" where they do."""
    while isinstance(schema, Mapping):
        if schema.get("$comment") in GUESSES:
            return f"{schema['$comment']}: change it if it is something else"
        schema = schema.get("items")
    return ""


def _bare(schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """The schema without null, and whether null was allowed."""
    kind = schema.get("type")
    if isinstance(kind, list):
        others = [each for each in kind if each != "null"]
        return {**schema, "type": others[0] if len(others) == 1 else None}, "null" in kind
    for key in ("anyOf", "oneOf"):
        parts = schema.get(key)
        if isinstance(parts, list) and {"type": "null"} in parts and len(parts) == 2:
            other: Any = next((part for part in parts if part != {"type": "null"}), {})
            if not isinstance(other, Mapping):
                return {}, False
            return {**{k: v for k, v in schema.items() if k != key}, **other}, True
    return schema, False


def _optional(found: Any) -> Any:
    if isinstance(found, str):
        return found if found.endswith("?") else f"{found}?"
    return {**_detailed(found), "optional": True}


def _detailed(found: Any) -> dict[str, Any]:
    return {"list": found[0]} if isinstance(found, list) else dict(found)


def _described(schema: Mapping[str, Any]) -> dict[str, Any]:
    told = schema.get("description")
    return {"description": told} if isinstance(told, str) and told else {}


def _composed(start: Start, name: str, declared: Mapping[str, Any], root: Any) -> str:
    head = f"""\
# A job that extracts the same fields from many documents. Check it, try it on a few, then run it:
#
#   carrara validate {name}.yaml
#   carrara run {name}.yaml --input 'documents/*.txt' --output rows.jsonl --limit 5 --trust
#   carrara run {name}.yaml --input 'documents/*.txt' --output all.jsonl --review 0.8
#   carrara review all.review.jsonl
name: {name}

inputs:
  {start.text}: str  # a document; of a .jsonl or .csv record the field of this name
"""
    types = ""
    if declared:
        types = "\n# What is wanted. `?` allows null; bounds (max_length, max_items) make answers quicker and surer.\n"
        types += _yaml({"types": dict(declared)})
    examples = _examples(start)
    step = f"""
steps:
  answer:
    llm: |
      Extract the following from the text as JSON. Use null for what the text does not say; copy wording as it stands.

      Text:
      {{{{ {start.text} }}}}
{_indented(_yaml({"returns": root}))}\
    max_tokens: {_TOKENS}  # as much as the longest answer needs
    # What must hold between fields is a function in a file beside this one, say total == sum(items):
    # validators: ["./checks.py:adds_up"]
{examples}"""
    return head + types + step


def _examples(start: Start) -> str:
    if not start.examples:
        return ""
    found = [
        {"inputs": {start.text: text}, "answer": wanted}
        for text, wanted in start.examples[:EXAMPLES]
    ]
    told = "    # Shown to the model. Rows that stand here are no test of it: evaluate on others.\n"
    return told + _indented(_yaml({"examples": found}))


def _yaml(data: Any) -> str:
    writer, out = YAML(), StringIO()
    writer.default_flow_style = False
    writer.allow_unicode = True
    writer.width = 10_000
    writer.indent(mapping=2, sequence=4, offset=2)
    writer.dump(data, out)
    return out.getvalue()


def _indented(text: str) -> str:
    return "".join(
        f"    {line}" if line.strip() else line for line in text.splitlines(keepends=True)
    )


def _camel(key: str) -> str:
    made = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", key))
    return made if made[:1].isalpha() else f"Part{made}"


def _singular(name: str) -> str:
    return name[:-1] if name.endswith("s") and not name.endswith("ss") else f"{name}Item"


__all__ = ["EXAMPLES", "Start", "StartError", "pipeline_text", "read_start"]
