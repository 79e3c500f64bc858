"""The tokens of JSON and of its common misspellings, as patterns that never look back: linear on any text."""

from __future__ import annotations

import re
from typing import NamedTuple

from carrara.runtime.repair.masks import MASK

WINDOW = 4096  # how far a broken string is followed, in characters
LONGEST = 1 << 16  # a sound string longer than this is found with str.find

STRING = re.compile(r'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"')
NUMBER = re.compile(
    r"-?(?:0|[1-9]\d*+)(?:\.\d++)?(?:[eE][+-]?\d++)?(?=[\s,\]};)/#\\<\uff0c\uff5d\uff3d\u3001]|$)"
)
GLUED_NUMBER = re.compile(
    r"-?(?:0|[1-9]\d*+)(?:\.\d++)?(?:[eE][+-]?\d++)?(?=[\"{\[])"
)  # what follows began without the comma before it
LITERAL = re.compile(r"(?:true|false|null)(?![\w-])")
OTHER_NUMBER = re.compile(
    r"[+-]?(?:\d[\d_]*+)?\.?\d*+(?:[eE][+-]?\d++)?(?=[\s,\]};)/#\\<\uff0c\uff5d\uff3d\u3001]|$)"
)
OTHER_LITERAL = re.compile(r"(?:TRUE|True|FALSE|False|NULL|Null|None|undefined|nil)(?![\w-])")
CUT_LITERAL = re.compile(r"(?:tr|tru|fa|fal|fals|nu|nul)(?=\s*+$)")
SPELLED = {
    "tr": "true",
    "tru": "true",
    "fa": "false",
    "fal": "false",
    "fals": "false",
    "nu": "null",
    "nul": "null",
    "TRUE": "true",
    "True": "true",
    "FALSE": "false",
    "False": "false",
    "NULL": "null",
    "Null": "null",
    "None": "null",
    "undefined": "null",
    "nil": "null",
}

SPACE = re.compile(r"[ \t\r\n\x0b\x0c\xa0\u200b\u2028\u2029\u3000\ufeff]*+")
STRANGE_SPACE = re.compile(r"[\x0b\x0c\xa0\u200b\u2028\u2029\u3000\ufeff]")
COMMENT = re.compile(
    r"//[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/|$)|#[^\n]*+|(?:\\[nrt](?![a-z]))++|(?:\.\.\.|…),?"
)
BARE_KEY = re.compile(r"[\w$@][\w$@.\- ]{0,80}+(?=[\"'\u201d\u2019]?\s{0,8}+(?:[:\uff1a]|=>?))")
BARE_VALUE = re.compile(r"[^,\]}\[{\n\r\"“”，｝］、]++")
CUT_OPEN = re.compile(r"[^\n\r\"“”]{1,400}?[\"”](?=\s{0,200}+(?:[,}\]:]|$))")

# Punctuation of other widths and scripts, and what it stands for outside of strings.
WIDE = {
    "\uff5b": "{",
    "\uff5d": "}",
    "\uff3b": "[",
    "\uff3d": "]",
    "\u3010": "[",
    "\u3011": "]",
    "\uff1a": ":",
    "\uff0c": ",",
    "\u3001": ",",
    "\uff1b": ",",
    ";": ",",
}
# An opening quote and the characters that may close it.
QUOTES = {
    '"': '"\u201d\uff02',
    "'": "'\u2019",
    "`": "`'",
    "\u201c": '\u201d\u201c"\uff02',
    "\u201d": '\u201d"',
    "\u201e": '\u201c\u201d"',
    "\u2018": "\u2019\u2018'",
    "\u00ab": "\u00bb",
    "\uff02": '\uff02"',
    "\u300c": "\u300d",
}
CLOSING = {
    quote: re.compile(rf"(?s)(?:[^\\{ends}]++|\\.)*+(?=[{ends}])") for quote, ends in QUOTES.items()
}
"""What stands before the next quote that may close, escaped ones passed over."""
ENDING = {quote: re.compile(rf"[\\{ends}]") for quote, ends in QUOTES.items()}
CLOSER = {"{": "}", "[": "]"}
VALUE_START = frozenset("{[-0123456789tfnTFN+.") | frozenset(QUOTES) | {"\uff5b", "\uff3b"}

# What may follow the closing quote of a key, or of a value in an object or in an array, when all is well.
AFTER_KEY = re.compile(r"(?:\s|\\[nrt](?![a-z]))*+(?:[:\uff1a]|=>?)")
AFTER_IN_OBJECT = re.compile(
    r"(?:\s|\\[nrt](?![a-z]))*+(?:[}\]\uff5d]|$|[,;\uff0c\u3001](?:\s|\\[nrt](?![a-z]))*+(?:[}\]]|$|[\"'“‘„«`](?:[^\"'”’\n]{0,200}+[\"'”’»`]\s*+[:\uff1a=]"
    r"|[^:\n]{1,80}:)|[\w$@][\w$@.\- ]{0,80}+[\"'”]?\s*+[:\uff1a=]|[,/#]))"
)
AFTER_IN_ARRAY = re.compile(
    r"(?:\s|\\[nrt](?![a-z]))*+(?:[\]}\uff3d]|$|[,;\uff0c\u3001](?:\s|\\[nrt](?![a-z]))*+(?:[\]}\"“‘„«`'{\[,/#\uff5b]|$|-?\d"
    r"|(?:true|false|null|True|False|None)\b))"
)
_BLANKS = r"[ \t\r\n]*+"
_SCALAR = rf"(?:{STRING.pattern}|-?(?:0|[1-9]\d*+)(?:\.\d++)?(?:[eE][+-]?\d++)?|true|false|null)"
MEMBER = re.compile(
    rf"({STRING.pattern}){_BLANKS}:{_BLANKS}({_SCALAR})"
    rf"(?:{_BLANKS}(,){_BLANKS}(?=\"[^\"'”’\n]{{0,200}}+\"{_BLANKS}:)|(?={_BLANKS}[}}]))"
)
"""A whole member with a plain value, and its comma (group 3) if the next key stands behind it; else a brace does. What
it takes, the patterns above and below take token by token."""
ELEMENT = re.compile(rf"({_SCALAR}){_BLANKS}(,){_BLANKS}(?=[\"{{\[])")
"""The same of lists, with its comma."""
AFTER_ROOT = re.compile(r"\s*+$")
NEXT_KEY = re.compile(r",\s{0,200}+[\"“'](?:[^\"”'\n]{0,200})[\"”']\s{0,20}+:")
NEXT_ELEMENT = re.compile(r",\s{0,200}+[\"“'{\[]")
CLOSERS = re.compile(r"\s{0,200}+[}\]]")
CONTROL = re.compile(r'[\x00-\x1f"]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})?')


class Skipped(NamedTuple):
    """Where the next token starts, and the comments or strange spaces before it as (start, end)."""

    at: int
    dropped: tuple[tuple[int, int, str], ...]


def past_space(text: str, at: int) -> int:
    """Where the white space at `at` ends."""
    found = SPACE.match(text, at)
    return at if found is None else found.end()


def skip(text: str, at: int) -> Skipped:
    """Pass over white space and comments. Dropped parts carry the rule that drops them."""
    end = past_space(text, at)
    dropped: list[tuple[int, int, str]] = []
    if end > at and not text[at:end].isascii():
        dropped += [
            (at + m.start(), at + m.end(), "strange_space")
            for m in STRANGE_SPACE.finditer(text[at:end])
        ]
    start = at
    while end < len(text) and text[end] in "/#\\.…" and (found := COMMENT.match(text, end)):
        rule = (
            "comment" if text[end] in "/#" else "strange_space" if text[end] == "\\" else "ellipsis"
        )
        dropped.append((_before_blanks(text, end, start), found.end(), rule))
        start = found.end()
        end = past_space(text, start)
    return Skipped(end, tuple(dropped))


def _before_blanks(text: str, at: int, least: int) -> int:
    while at > least and text[at - 1] in " \t":
        at -= 1
    return at


def mask_at(text: str, at: int) -> int:
    """Where the run of left-over masks at `at` ends, `at` itself without one."""
    end = at
    while found := MASK.match(text, end):
        end = found.end()
    return end


__all__ = [
    "AFTER_IN_ARRAY",
    "AFTER_IN_OBJECT",
    "AFTER_KEY",
    "AFTER_ROOT",
    "BARE_KEY",
    "BARE_VALUE",
    "CLOSER",
    "CLOSERS",
    "CLOSING",
    "CONTROL",
    "CUT_LITERAL",
    "CUT_OPEN",
    "ELEMENT",
    "ENDING",
    "GLUED_NUMBER",
    "LITERAL",
    "LONGEST",
    "MEMBER",
    "NEXT_ELEMENT",
    "NEXT_KEY",
    "NUMBER",
    "OTHER_LITERAL",
    "OTHER_NUMBER",
    "QUOTES",
    "SPELLED",
    "STRING",
    "VALUE_START",
    "WIDE",
    "WINDOW",
    "Skipped",
    "mask_at",
    "past_space",
    "skip",
]
