"""Contracts as grammars: the text that llguidance lets through for each kind of output contract.

What a grammar here accepts, the contract's own reader takes. It accepts less: one spelling of white
space, rows and items in canonical form, no text that Markdown would read as something else. Everything
is closed: an answer that reaches the end of its grammar parses.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache

from llguidance import LLMatcher, regex_to_lark

from carrara.engines.autoregressive.infill_grammar import infill_lark
from carrara.engines.autoregressive.narrow import narrowed
from carrara.engines.contract import Choice, Contract, Infill, Json, Outline, Regex, Table, Text

# A cell or item of text: no control characters, no space at the ends, nothing that Markdown or the
# escapes of `carrara.engines.markdown` give a meaning to.
# Both are bounded: small models loop, and a table or list whose every line may end has an end.
_CELL = r"[^\s|\\]([^\x00-\x1f\x7f|\\]{0,118}[^\s|\\])?"
_ITEM = (
    r"([^\s\x00-\x1f\x7f\-+*#>`~<\[_0-9|=:\\]"
    r"|[0-9]{1,6}([^\s0-9.)\\]| [^\s\\]|[.)][^\s\\])"
    r"|\*\*[^\s\x00-\x1f\x7f*_`\\])[^\x00-\x1f\x7f]{0,240}"
    r"|[0-9]{1,6}"
)
_LEAP = r"([12][0-9](0[48]|[2468][048]|[13579][26])|(12|16|20|24|28)00)-02-29"
_DATE = (
    r"[12][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])"
    r"|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
)
_CELLS = {
    "string": _CELL,
    "integer": r"-?(0|[1-9][0-9]{0,14})",
    "number": r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,10})?",
    "boolean": r"true|false",
    "date": f"{_DATE}|{_LEAP}",
}


def grammar_of(contract: Contract, longest: int, lenient: bool = False) -> str | None:
    """The llguidance grammar of `contract`, None for free text. It is not compiled, so it may prove
    unusable.

    `longest` bounds JSON strings that have no bound of their own, in characters; `lenient` ignores
    keywords of JSON Schema that llguidance does not know.

    Raises:
        CarraraError: the JSON Schema is none.
        ValueError: llguidance cannot read it, as it is nested too deep.
    """
    match contract:
        case Text():
            return None
        case Choice(options):
            return LLMatcher.grammar_from_lark("start: " + _either(map(_quoted, options)))
        case Regex(pattern):
            return LLMatcher.grammar_from_lark(f"start: /{_python_regex(pattern)}/")
        case Json():
            schema = json.dumps(narrowed(contract.schema, longest))
            return LLMatcher.grammar_from_json_schema(
                schema,
                overrides={
                    # `{"a": 1, "b": null}`: the spelling that models have seen most on one line.
                    "item_separator": ", ",
                    "key_separator": ": ",
                    "whitespace_flexible": False,
                    # Without "u": everything else is written as itself, and half a surrogate is no text.
                    "json_allowed_escapes": '"\\bfnrt',
                    "lenient": lenient,
                },
            )
        case Table():
            return LLMatcher.grammar_from_lark(_table(contract))
        case Outline():
            return LLMatcher.grammar_from_lark(_outline(contract))
        case Infill():
            return LLMatcher.grammar_from_lark(infill_lark(contract, _python_regex))


def _table(contract: Table) -> str:
    """Header and rule are fixed; then rows, each after its line break.

    A row is one lexeme: were a cell one, the space before the next pipe could only go on with it, since
    the lexer does not go back, and the pipe that the model wants to write there would be shut out.
    """
    header = "| " + " | ".join(_written(column.name) for column in contract.columns) + " |"
    rule = "| " + " | ".join("---" for _ in contract.columns) + " |"
    # An empty cell leaves two spaces, as in the canonical form.
    cells = " \\| ".join(f"({_CELLS[column.kind]})?" for column in contract.columns)
    row = regex_to_lark(rf"\n\| {cells} \|", "")
    rows = _repeated("ROW", contract.min_rows, contract.max_rows)
    return "\n".join(
        [
            f"start: {_quoted(header + chr(10) + rule)} {rows}",
            f"ROW: /{row}/",
        ]
    )


def _outline(contract: Outline) -> str:
    """One line an item; the items below one stand two spaces deeper. Line breaks separate, none ends the
    text."""
    top = _repeated("more", max(contract.min_items - 1, 0), _less_one(contract.max_items))
    lines = [f"start: item0 {top}", 'more: "\\n" item0']
    for depth in range(contract.max_depth):
        deeper = f" below{depth + 1}*" if depth + 1 < contract.max_depth else ""
        lines.append(f'item{depth}: "- " WORDS{deeper}')
        if depth:
            lines.append(f'below{depth}: "\\n{"  " * depth}" item{depth}')
    lines.append(f"WORDS: /{regex_to_lark(_ITEM, '')}/")
    return "\n".join(lines)


def _repeated(name: str, least: int, most: int | None) -> str:
    if most == 0:
        return ""
    return f"{name}{{{least},{'' if most is None else most}}}"


def _less_one(count: int | None) -> int | None:
    return None if count is None else max(count - 1, 0)


def _either(parts: Iterable[str]) -> str:
    return " | ".join(parts)


def _quoted(text: str) -> str:
    return json.dumps(text)


def _written(name: str) -> str:
    return " ".join(name.split()).replace("|", "\\|")


@lru_cache(maxsize=256)
def _python_regex(pattern: str) -> str:
    """A Python pattern as llguidance's Lark takes it: it is anchored anyway, and groups have no names."""
    body = re.sub(r"^(\^|\\A)", "", pattern)
    body = re.sub(r"(?<!\\)\$$|\\Z$", "", body)
    body = re.sub(r"\(\?P<\w+>", "(", body)
    return regex_to_lark("".join(_translated(body)), "")


def _translated(pattern: str) -> Iterator[str]:
    for part in re.findall(r"\\.|[^\\]", pattern, re.DOTALL):
        yield _CLASSES.get(part, part)


# As Python's `re` reads them with the Unicode that Python knows. Rust's `\w` has combining marks in it
# and lacks superscripts, its Unicode is newer, its `\s` lacks the separators of ASCII. Brackets may
# stand in brackets there.
_AGE = ".".join(unicodedata.unidata_version.split(".")[:2])
_CLASSES = {
    r"\d": "[0-9]",
    r"\D": r"\P{Nd}",
    r"\w": rf"[\p{{L}}\p{{N}}_&&\p{{age={_AGE}}}]",
    r"\W": r"[^\p{L}\p{N}_]",
    r"\S": r"[^\s\x1c-\x1f]",
}
