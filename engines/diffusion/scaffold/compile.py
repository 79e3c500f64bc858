"""From a contract to its program: the one place that knows all kinds of contracts."""

from __future__ import annotations

from functools import lru_cache

from carrara.engines.contract import Choice, Contract, Infill, Json, Outline, Regex, Table, Text
from carrara.engines.diffusion.scaffold.forms import Program
from carrara.engines.diffusion.scaffold.infill_form import (
    choice_form,
    infill_program,
    pattern_slot,
)
from carrara.engines.diffusion.scaffold.json_form import json_program
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
            return Program(choice_form(options))
        case Json():
            return json_program(contract.schema_text)
        case Table():
            return table_program(contract)
        case Outline():
            return outline_program(contract)
        case Regex(pattern):
            return Program(pattern_slot(pattern))
        case Infill():
            return infill_program(contract)
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
