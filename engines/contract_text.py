"""What a model is told about the form of its answer."""

from __future__ import annotations

from carrara.engines.contract import (
    Choice,
    Contract,
    Hole,
    Infill,
    Json,
    Outline,
    Regex,
    Table,
    Text,
)


def describe(contract: Contract) -> str:
    """What to tell a model about the form of its answer, "" for free text without a bound. One short paragraph."""
    match contract:
        case Text(max_length):
            return "" if max_length is None else f"Answer with at most {max_length} characters."
        case Choice(options):
            return f"Answer with exactly one of: {', '.join(options)}."
        case Json():
            return (
                "Answer with one JSON value and nothing else, following this JSON Schema: "
                f"{contract.schema_text}"
            )
        case Table():
            header = " | ".join(c.name for c in contract.columns)
            count = _range("rows", contract.min_rows, contract.max_rows)
            kinds = "".join(
                f" Column {c.name} holds {_HOLDS[c.kind]}."
                for c in contract.columns
                if c.kind != "string"
            )
            return (
                f"Answer with one Markdown table{count} and nothing else. "
                f"Its columns are: | {header} |{kinds}"
            )
        case Outline():
            count = _range("top items", contract.min_items, contract.max_items)
            return (
                f"Answer with one nested Markdown bullet list{count} and nothing else, "
                f"at most {contract.max_depth} levels deep."
            )
        case Regex(pattern):
            return (
                f"Answer with text that matches the regular expression {pattern} and nothing else."
            )
        case Infill(parts):
            from carrara.engines.infill_text import with_blanks

            told = " ".join(
                f"Blank {number} holds {_held(part)}."
                for number, part in enumerate((p for p in parts if isinstance(p, Hole)), 1)
            )
            return (
                "Answer with the text below, each numbered blank filled in and nothing else changed. "
                f"{told}\n\n{with_blanks(contract)}"
            )


def _held(hole: Hole) -> str:
    match hole.contract:
        case Choice(options):
            return f"one of: {', '.join(options)}"
        case Regex(pattern):
            return f"text that matches {pattern}"
        case Json():
            return f"a JSON value that fits {hole.contract.schema_text}"
        case _:
            return f"text of at most {hole.max_tokens} tokens"


_HOLDS = {
    "integer": "whole numbers",
    "number": "numbers",
    "boolean": "true or false",
    "date": "dates written YYYY-MM-DD",
}


def _range(what: str, least: int, most: int | None) -> str:
    if most is not None:
        return f" of {least} to {most} {what}" if least != most else f" of {least} {what}"
    return f" of at least {least} {what}" if least > 1 else ""


__all__ = ["describe"]
