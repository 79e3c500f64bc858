"""A text with holes as a form: pinned pieces, and a slot or a gate for each hole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

from carrara.engines.contract import Choice, Hole, Infill, Json, Regex
from carrara.engines.diffusion.scaffold import chars, regex
from carrara.engines.diffusion.scaffold.dfa import Dfa, automaton, minimal
from carrara.engines.diffusion.scaffold.forms import (
    NOTHING,
    At,
    Form,
    Gate,
    Literal,
    Option,
    Program,
    Seq,
    Slot,
)
from carrara.engines.diffusion.scaffold.json_form import json_program
from carrara.engines.diffusion.scaffold.language import Embedded, Language, Node, seq
from carrara.engines.diffusion.scaffold.nfa import Move
from carrara.engines.diffusion.scaffold.refused import CannotHold
from carrara.engines.errors import CarraraError
from carrara.engines.infill_text import end_sign

_PIECE = 48  # characters: a window onto the canvas begins or ends between pieces, so a hole sees what is around it
_WRITABLE = chars.difference(chars.ANY, chars.difference(chars.CONTROLS, chars.of("\n\t")))


def infill_program(contract: Infill) -> Program:
    """Pinned text in pieces; the space before a hole belongs to its tokens, as everywhere.

    Raises:
        CannotHold: names the hole and the reason.
    """
    form: list[Form] = []
    prefix, number = "", 0
    for at, part in enumerate(contract.parts):
        if isinstance(part, str):
            before_hole = part.endswith(" ") and at + 1 < len(contract.parts)
            prefix = " " if before_hole else ""
            form += map(Literal, _pieces(part.removesuffix(prefix)))
            continue
        try:
            form.append(At(number, _hole_form(part, prefix, end_sign(contract, at))))
        except CarraraError as error:
            raise CannotHold(f"hole {number + 1}: {error}") from error
        prefix, number = "", number + 1
    return Program(Seq(tuple(form)))


def _hole_form(hole: Hole, prefix: str, sign: str) -> Form:
    match hole.contract:
        case Choice(options):
            return choice_form(options, prefix)
        case Regex(pattern):
            return replace(pattern_slot(pattern, prefix), most=hole.max_tokens)
        case Json():
            program = json_program(hole.contract.schema_text, prefix)
            if program.rules:
                raise CannotHold("a schema that contains itself does not go into a hole")
            return _bounded(program.root, hole.max_tokens)
    language = Language(seq(prefix, text_until(sign)))
    return Slot(language, "string", lambda value: _spelled(prefix, value), hole.max_tokens)


def choice_form(options: tuple[str, ...], prefix: str = "") -> Literal | Gate:
    """One of some texts."""
    if len(options) == 1:
        return Literal(prefix + options[0])
    return Gate(
        tuple(Option(prefix + text, NOTHING, lambda v, t=text: bool(v == t)) for text in options),  # type: ignore[misc]
        "choice",
    )


def pattern_slot(pattern: str, prefix: str = "") -> Slot:
    """Text that a regular expression matches in full.

    Raises:
        CarraraError: nothing matches, or it is not regular.
    """
    node = regex.full(pattern)
    if automaton(node).is_empty:
        raise CarraraError(f"no text matches {pattern!r}")
    return Slot(Language(seq(prefix, node)), "pattern", lambda value: _spelled(prefix, value))


@lru_cache(maxsize=256)
def text_until(sign: str) -> Node:
    """Texts behind which the first `sign` is the one that follows them ("": any text).

    The states are those of Knuth, Morris and Pratt: how much of the sign stands at the end.
    """
    if not sign:
        everything = tuple(Move(low, high, 0) for low, high in _WRITABLE)
        return Embedded(Dfa((everything,), frozenset((0,))))
    letters = dict.fromkeys(sign)
    others = chars.difference(_WRITABLE, chars.of(sign))
    moves = []
    for state in range(len(sign)):
        found = [Move(low, high, 0) for low, high in others]
        for letter in letters:
            after = _overlap(sign, sign[:state] + letter)
            if after < len(sign) and chars.intersection(_WRITABLE, chars.of(letter)):
                found.append(Move(ord(letter), ord(letter), after))
        moves.append(tuple(sorted(found, key=lambda move: move.low)))
    ends = (state for state in range(len(sign)) if sign not in (sign[:state] + sign)[:-1])
    return Embedded(minimal(Dfa(tuple(moves), frozenset(ends))))


def _overlap(sign: str, text: str) -> int:
    """The length of the longest beginning of `sign` that `text` ends with."""
    return next(n for n in range(min(len(sign), len(text)), -1, -1) if text.endswith(sign[:n]))


def bounded(form: Form) -> Iterator[Slot]:
    """The slots of a hole that are held to its bound."""
    match form:
        case Slot():
            yield form
        case Seq(parts):
            for part in parts:
                yield from bounded(part)
        case At(_, part):
            yield from bounded(part)


def _bounded(form: Form, most: int) -> Form:
    """The form with a bound on the tokens of its slots. Lists and choices keep their own."""
    match form:
        case Slot():
            return replace(form, most=most)
        case Seq(parts):
            return Seq(tuple(_bounded(part, most) for part in parts))
        case At(step, part, silent):
            return At(step, _bounded(part, most), silent)
    return form


def _pieces(text: str) -> Iterator[str]:
    """A text cut before white space, where tokens begin anyway."""
    while len(text) > _PIECE:
        cut = max(text.rfind(" ", 1, _PIECE), text.rfind("\n", 1, _PIECE))
        cut = cut if cut > 0 else _PIECE
        yield text[:cut]
        text = text[cut:]
    if text:
        yield text


def _spelled(prefix: str, value: Any) -> str | None:
    return prefix + value if isinstance(value, str) else None


__all__ = ["bounded", "choice_form", "infill_program", "pattern_slot", "text_until"]
