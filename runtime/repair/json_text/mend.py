"""From broken JSON text to edits: where the value starts, the search, and the check of what came out."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from carrara.runtime.repair.edits import composed, replaced
from carrara.runtime.repair.json_text.search import Mended, mend
from carrara.runtime.repair.masks import has_masks
from carrara.runtime.repair.report import Certainty, Edit

_START = re.compile(r"[{\[\uff5b\uff3b\u3010]")
_PLAUSIBLE = re.compile(
    r"[{\uff5b](?:\s|\\[nrt](?![a-z]))*+(?:[\"'“‘„«`}\uff5d,{/#]|[\w$][\w$\-]*+[\"'”]?\s*+[:\uff1a=]|\[MASK|<\|?m|$)"
    r"|[\[\uff3b\u3010](?:\s|\\[nrt](?![a-z]))*+(?:[\"'“‘„«`{\[\]\uff3b\uff5b,/#]|-?\d|(?:true|false|null|True|False|None)\b|\[MASK|<\|?m|$)"
)
_TORN = re.compile(r"\s*+[\"“'][^\"”'\n]{1,120}[\"”']\s*+[:\uff1a]")
_ESCAPED = re.compile(r'\s*+[{\[]\s*+(?:\\n\s*+)?\\"')
_MEMBER = re.compile(r'"[^"\n]{0,80}"\s*+:|[{]\s*+[\w$]{1,80}+\s*+:\s|^\s*+[,:{\[]')
_TORN_START = re.compile(r"\s*+(?:[\"']|-?\d[\d.eE+-]*+\s*,|(?:true|false|null)\s*,)")
_TORN_BEFORE = re.compile(r"(?:[\"'\d\]}]|\b(?:true|false|null)),\s*$|[\"']\s*:\s*$")
_STARTS_TRIED = 3
_OPENED_TWICE = re.compile(r"([\[{])\s*+\1")
_LONG = 5000  # characters; a longer text without a reading is not tried from its other brackets
_UNSURE_NESTING = frozenset(
    {"array_close_lost", "unclosed_end", "close_lost", "wrong_bracket", "extra_close"}
)
_UNSURE_BRACKET = _UNSURE_NESTING | {"array_close_lost"}
_ROUNDS = 2
_GOOD_ENOUGH = 9.0

# How sure each repair is. What is not named is "certain": the text has no other reading.
LIKELY = frozenset(
    {
        "value_quote_lost", "value_quotes_lost", "bracket_lost", "close_lost", "wrong_bracket", "inner_quotes",
        "value_missing", "mask_left", "number_spelling", "joined_strings", "array_close_lost", "unclosed_end",
        "member_restarted", "ellipsis", "unescaped_twice", "literal_cut",
        "quote_swapped", "end_repeated",
    }
)  # fmt: skip
REASONS = {
    "array_close_lost": "a key stands in a list: the list ended before it",
    "bad_escape": "JSON knows no such escape",
    "bracket_lost": "what follows needs a bracket here",
    "close_lost": "what follows belongs outside",
    "colon_swapped": "a colon belongs behind a key",
    "comma_swapped": "members are separated by commas",
    "comment": "JSON has no comments",
    "ellipsis": "an ellipsis is no member",
    "end_repeated": "the value has ended, and its end stands again behind it",
    "dup_bracket": "the bracket stands twice",
    "dup_colon": "the colon stands twice",
    "dup_comma": "a comma without a member",
    "dup_key_token": "the key stands twice",
    "extra_close": "nothing is open here to be closed",
    "inner_quotes": "a quote inside a string is escaped",
    "joined_strings": "JSON has no operators",
    "key_quote_lost": "the key's other quote is there",
    "literal_cut": "the text ends inside of this literal",
    "mask_left": "a left-over token of the decoder",
    "member_restarted": "the same text begins again behind it, and goes on there",
    "missing_colon": "a colon belongs behind a key",
    "missing_comma": "a comma belongs between members",
    "number_spelling": "JSON spells numbers otherwise",
    "python_literal": "JSON's spelling of the literal",
    "quote_doubled": "the quote stands twice",
    "quote_swapped": "the mark that is missing behind the quote stands before it",
    "raw_control": "control characters are escaped in strings",
    "raw_newline": "line breaks are escaped in strings",
    "single_quotes": "JSON has double quotes only",
    "smart_quotes": "typographic quotes delimit this string",
    "strange_space": "no white space of JSON",
    "text_around": "text around the JSON value",
    "trailing_comma": "no member follows this comma",
    "unclosed_end": "the text ends inside of it",
    "unquoted_keys": "keys are quoted",
    "value_missing": "a value belongs here",
    "value_quote_lost": "the string's other quote is there",
    "value_quotes_lost": "strings are quoted",
    "wide_punctuation": "punctuation of another script",
    "wrong_bracket": "what is open here is closed by the other bracket",
}


class JsonRepair(NamedTuple):
    """Edits that make `text` the JSON of `value`; `empty` the offsets of the values that are missing in it."""

    edits: tuple[Edit, ...]
    text: str
    value: Any


def edits_for_json(text: str) -> JsonRepair | None:
    """The cheapest repair that leaves valid JSON without masks, None if there is none that loses nothing."""
    found = _cheapest(text)
    for _ in range(_ROUNDS):
        if found is None or not has_masks(found.text):
            return found
        again = _cheapest(found.text)  # masks in a string whose quotes had to be found first
        if again is None:
            return None
        found = again._replace(edits=composed(text, found.edits, again.edits))
    return None


def _cheapest(text: str) -> JsonRepair | None:
    if (whole := _unescaped(text)) is not None:
        return whole
    masked = has_masks(text)
    torn = _TORN.match(text) is not None
    best: tuple[float, int, Mended] | None = None
    for start in _starts(text):
        found = mend(text, start, masked, torn)
        if found is None and len(text) > _LONG:
            break
        if found is not None and _UNSURE_NESTING.intersection(edit[3] for edit in found.edits):
            again = mend(text, start, masked, torn, indented=True)
            found = again if again is not None and again.cost <= found.cost + 1.0 else found
        if found is None:
            continue
        if _UNSURE_BRACKET.intersection(edit[3] for edit in found.edits):
            found = _without_a_bracket(text, start, masked, torn, found)
        cost = found.cost + (0.0 if best is None else 6.0)
        if best is None or cost < best[0]:
            best = (cost, start, found)
        if cost <= _GOOD_ENOUGH:
            break
    if best is None:
        return None
    _, start, found = best
    edits = list(found.edits)
    if text[:start]:
        edits.insert(0, (0, start, "", "text_around"))
    return _checked(text, edits)


def _without_a_bracket(text: str, start: int, masked: bool, torn: bool, found: Mended) -> Mended:
    """The reading in which an opening bracket stands twice, if it is cheaper."""
    for m, _ in zip(_OPENED_TWICE.finditer(text, start), range(_STARTS_TRIED), strict=False):
        at = m.end() - 1
        other = mend(f"{text[:at]} {text[at + 1 :]}", start, masked, torn)
        cost = 0.9 if at == m.start() + 1 else 2.2
        if other is not None and other.cost + cost < found.cost:
            edits = sorted(
                [*other.edits, (at, at + 1, "", "dup_bracket")], key=lambda e: (e[0], e[1])
            )
            found = Mended(edits, other.cost + cost, other.margin)
    return found


def is_part_of_value(text: str, start: int, end: int) -> bool:
    """Whether the text from `start` to `end`, around a value, looks like more of it or like another one."""
    if start > 0 and _is_torn(text[start:end].lstrip(" ").partition("\n")[0]):
        return True
    return _MEMBER.search(text, start, end) is not None or (
        end < len(text)
        and (_TORN_BEFORE.search(text, start, end) or _TORN_START.match(text, start, end))
        is not None
    )


def _is_torn(line: str) -> bool:
    """Whether a line ends what it did not begin: a string or a bracket."""
    return (
        line.count('"') % 2 == 1
        or line.count("]") > line.count("[")
        or line.count("}") > line.count("{")
    )


def _unescaped(text: str) -> JsonRepair | None:
    """JSON that was written as the content of a JSON string: one layer of escapes too much."""
    if not _ESCAPED.match(text):
        return None
    try:
        plain = json.loads(f'"{text.strip()}"', strict=False)
        value = json.loads(plain)
    except (ValueError, RecursionError):
        return None
    edit = Edit(
        0,
        len(text),
        text,
        plain,
        "unescaped_twice",
        "the text of a string, not of a value",
        1,
        "likely",
    )
    return JsonRepair((edit,), plain, value)


def _checked(text: str, found: list[tuple[int, int, str, str]]) -> JsonRepair | None:
    place = 0
    edits = []
    for start, end, after, rule in found:
        if start < place:
            return None  # two repairs of one place: the reading contradicts itself
        place = end
        if start == end and not after:
            continue
        if rule == "text_around" and is_part_of_value(text, start, end):
            return None  # more values stand there: they would be lost
        edits.append(_edit(text, start, end, after, rule))
    mended = replaced(text, ((e.start, e.end, e.after) for e in edits))
    try:
        value = json.loads(mended)
    except (ValueError, RecursionError):
        return None
    if any(edit.rule == "extra_close" for edit in edits) and _has_key_twice(mended):
        return None  # the member behind the bracket would replace another of its name
    return JsonRepair(tuple(edits), mended, value)


def _has_key_twice(text: str) -> bool:
    """Whether an object in JSON `text` has two members of one name, of which a parser keeps the last."""
    twice = False

    def read(members: list[tuple[str, Any]]) -> None:
        nonlocal twice
        twice = twice or len(dict(members)) < len(members)

    json.loads(text, object_pairs_hook=read)
    return twice


def _edit(text: str, start: int, end: int, after: str, rule: str) -> Edit:
    before = text[start:end]
    certainty: Certainty = "likely" if rule in LIKELY else "certain"
    return Edit(start, end, before, after, rule, REASONS[rule], 1, certainty)


def _starts(text: str) -> list[int]:
    """Offsets where the value may start, the likeliest first."""
    if _TORN.match(text):
        return [0]  # a member without its object: the search opens one
    found = [
        m.start() for m, _ in zip(_PLAUSIBLE.finditer(text), range(_STARTS_TRIED), strict=False)
    ]
    if not found:
        first = _START.search(text)
        found = [first.start()] if first else []
    return found


__all__ = ["JsonRepair", "edits_for_json", "is_part_of_value"]
