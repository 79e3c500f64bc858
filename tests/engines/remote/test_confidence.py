"""The confidence in a choice, from what a server tells of its tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.contract import Choice
from carrara.engines.remote.confidence import confidence
from carrara.engines.remote.reply import TokenChance

MOOD = Choice(("glad", "sad"))


def sure(*tokens: TokenChance) -> float | None:
    text = b"".join(token.raw for token in tokens).decode()
    return confidence(MOOD, None, text, tokens, is_whole=True).overall


@given(st.floats(0, 1))
def test_a_choice_is_as_sure_as_its_token_where_no_alternative_is_told(chance: float) -> None:
    assert sure(TokenChance(b"glad", chance)) == chance
    assert sure(TokenChance(b"glad", chance, ((b"glad", chance),))) == chance


def test_alternatives_that_begin_no_option_are_left_out() -> None:
    listed = ((b"glad", 0.3), (b"Well", 0.6), (b"s", 0.1))
    assert sure(TokenChance(b"glad", 0.3, listed)) == pytest.approx(0.75)


def test_the_rest_of_the_only_option_left_is_forced() -> None:
    listed = ((b"gl", 0.5), (b"sad", 0.5))
    first, rest = TokenChance(b"gl", 0.5, listed), TokenChance(b"ad", 0.2)
    assert sure(first, rest) == pytest.approx(0.5)
