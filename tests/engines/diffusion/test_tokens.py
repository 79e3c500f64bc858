"""Token automata allow exactly what can still be completed."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.engines.diffusion.scaffold import regex
from carrara.engines.diffusion.scaffold.dfa import automaton, beginning_with, json_escaped
from carrara.engines.diffusion.scaffold.language import Embedded, alt, literal, seq
from carrara.engines.diffusion.scaffold.lift import PAD, lift
from carrara.engines.diffusion.scaffold.tokens import TokenAutomaton
from carrara.engines.diffusion.scaffold.utf8 import spelled_out

unhurried = settings(deadline=None, max_examples=30)
VOCABULARY = (b"", b"", b"a", b"b", b"ab", b"ba", b"aaa", b"c", b"\xc3", b"\xa9", b"a\xc3")
PAD_ID = 1


def lifted(pattern: str, least: int = 0, most: int | None = None) -> TokenAutomaton:
    counted = least > 0 or most is not None
    inside = json_escaped(automaton(regex.full(pattern)), counted)
    bare = beginning_with(automaton(literal("c")), least)
    dfa = spelled_out(automaton(alt(Embedded(bare), seq("b", Embedded(inside), "c"))))
    return TokenAutomaton(lift(dfa, VOCABULARY, PAD_ID), dfa.accepts, least, most)


def fits(pattern: str, ids: tuple[int, ...], least: int, most: int | None) -> bool:
    """Whether tokens, pads at the end only, spell "c", or "b", a text of the pattern and "c"."""
    body = ids
    while body and body[-1] == PAD_ID:
        body = body[:-1]
    if PAD_ID in body or 0 in body:
        return False
    try:
        text = b"".join(VOCABULARY[i] for i in body).decode()
    except UnicodeDecodeError:
        return False
    import re

    inner = text[1:-1]
    quoted = len(text) > 1 and text[0] == "b" and text[-1] == "c"
    counts = least <= len(inner) and (most is None or len(inner) <= most)
    return text == "c" or bool(quoted and re.fullmatch(pattern, inner) and counts)


CASES = [
    ("(a|b)*", 0, None),
    ("(ab)*a?", 0, None),
    ("[abé]*", 0, None),
    ("[abé]*", 2, 3),
    ("a*", 3, None),
    ("b?", 0, 0),
]


@pytest.mark.parametrize(("pattern", "least", "most"), CASES)
@unhurried
@given(fixed=st.lists(st.none() | st.integers(1, len(VOCABULARY) - 1), min_size=1, max_size=4))
def test_a_token_is_allowed_where_some_completion_has_it(
    pattern: str, least: int, most: int | None, fixed: list[int | None]
) -> None:
    slot = lifted(pattern, least, most)
    choices = [range(len(VOCABULARY)) if i is None else (i,) for i in fixed]
    good = [ids for ids in product(*choices) if fits(pattern, ids, least, most)]
    kinds = [-1 if i is None else 1 << int(slot.table.class_of[i]) for i in fixed]
    forward = [slot.start]
    for kind in kinds:
        forward.append(slot.forward(forward[-1], kind))
    backward = [slot.ends]
    for kind in reversed(kinds):
        backward.append(slot.backward(backward[-1], kind))
    backward.reverse()
    for at, token in enumerate(fixed):
        if token is None:
            classes = slot.fitting(forward[at], backward[at + 1])
            allowed = {
                i for i in range(len(VOCABULARY)) if classes >> int(slot.table.class_of[i]) & 1
            }
            assert allowed == {ids[at] for ids in good}


def test_lengths_in_tokens_are_found() -> None:
    slot = lifted("(ab){2,3}")
    assert slot.fewest_tokens() == 1  # the bare "c"
    assert slot.most_tokens() == 8
    assert lifted("a*").most_tokens(limit=50) == 50
    assert lifted("(ab)*c").most_tokens(limit=10**15) == 10**15  # known after a few
    assert lifted("a*", 4, 4).accepts_tokens([3, 6, 2, 7])
    assert not lifted("a*", 4, 4).accepts_tokens([3, 6, 7])


def test_tokens_that_do_the_same_share_a_class() -> None:
    slot = lifted("[ab]*")
    classes = slot.table.class_of.tolist()
    assert classes[2] == classes[4] == classes[6] != classes[3]
    assert classes[PAD_ID] == PAD
    assert classes[0] == classes[8] == 0
