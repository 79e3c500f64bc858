"""Grammars and patterns for servers that take them as text.

llama.cpp can be built with llguidance (the package xllamacpp is): it then takes the grammars of the engine `ar` as
they are, and answers in the contract's own form. JSON goes there by its schema all the same. Others take a pattern
inside a JSON Schema, of a plainer kind than Python's.
"""

from __future__ import annotations

import re
from importlib.util import find_spec

from carrara.engines.contract import Contract, Json, Text
from carrara.engines.errors import EngineRefused

_LONGEST = 512
_CLASSES = {"d": "0-9", "w": "A-Za-z0-9_", "s": " \\t\\n\\r"}
_PLAIN_ESCAPES = frozenset(".^$*+?()[]{}|\\/-nrt\"'")


def llguidance_text(contract: Contract) -> str | None:
    """The grammar of `contract` for llama.cpp, None for free text and JSON, and where llguidance is missing here or
    takes no such contract: then its schema has to do."""
    if isinstance(contract, Text | Json) or find_spec("llguidance") is None:
        return None
    from carrara.engines.autoregressive.guide import usable_grammar

    try:
        grammar = usable_grammar(contract, _LONGEST)
    except EngineRefused:
        return None
    return f"%llguidance {{}}\n{grammar}"


def plain_pattern(pattern: str) -> str | None:
    """A Python pattern as servers take it in a schema: anchored, with classes spelled out; None for one that they
    would not understand. The answer is matched with the pattern itself, so a class may be narrower here."""
    body = re.sub(r"(?<!\\)\$$|\\Z$", "", re.sub(r"^(\^|\\A)", "", pattern))
    if re.search(r"\(\?(?!:)|\\[bBAZ1-9pPuxN]|[*+?}][+?]", body):
        return None
    made, at, inside = [], 0, False
    while at < len(body):
        mark = body[at]
        if mark == "\\" and at + 1 < len(body):
            following = body[at + 1]
            if following in _CLASSES:
                listed = _CLASSES[following]
                made.append(listed if inside else f"[{listed}]")
            elif following in _PLAIN_ESCAPES:
                made.append(body[at : at + 2])
            else:
                return None
            at += 2
            continue
        if mark == "[" and not inside:
            inside = True
        elif mark == "]" and inside:
            inside = False
        made.append(mark)
        at += 1
    return f"^({''.join(made).replace('(?:', '(')})$"


__all__ = ["llguidance_text", "plain_pattern"]
