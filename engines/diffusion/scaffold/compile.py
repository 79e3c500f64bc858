"""From a contract to its program: the one place that knows all kinds of contracts."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from carrara.engines.contract import Choice, Contract, Json, Outline, Regex, Table, Text
from carrara.engines.diffusion.scaffold import regex
from carrara.engines.diffusion.scaffold.dfa import automaton
from carrara.engines.diffusion.scaffold.forms import NOTHING, Gate, Literal, Option, Program, Slot
from carrara.engines.diffusion.scaffold.json_form import json_program
from carrara.engines.diffusion.scaffold.language import Language
from carrara.engines.diffusion.scaffold.markdown_form import outline_program, table_program
from carrara.engines.errors import CarraraError


@lru_cache(maxsize=256)
def compiled(contract: Contract) -> Program:
    """The program of a contract. Free text has none: it needs no scaffold.

    Raises:
        CarraraError: no scaffold holds the contract, and why.
    """
    match contract:
        case Choice(options):
            return Program(_choice(options))
        case Json():
            return json_program(contract.schema_text)
        case Table():
            return table_program(contract)
        case Outline():
            return outline_program(contract)
        case Regex(pattern):
            return Program(_pattern(pattern))
        case Text():
            raise CarraraError("free text has no scaffold")


def refusal(contract: Contract) -> str | None:
    """Why no scaffold can hold a contract, None if one can."""
    if isinstance(contract, Text):
        return None
    try:
        compiled(contract)
    except CarraraError as error:
        return str(error)
    except RecursionError:
        return "nested too deep to be compiled"
    return None


def _choice(options: tuple[str, ...]) -> Literal | Gate:
    if len(options) == 1:
        return Literal(options[0])
    return Gate(tuple(Option(text, NOTHING, _is(text)) for text in options), "choice")


def _pattern(pattern: str) -> Slot:
    node = regex.full(pattern)
    if automaton(node).is_empty:
        raise CarraraError(f"no text matches {pattern!r}")
    return Slot(Language(node), "pattern", lambda value: value if isinstance(value, str) else None)


def _is(expected: str) -> Callable[[Any], bool]:
    return lambda value: bool(value == expected)
