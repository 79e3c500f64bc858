"""Gates give each option its probability, read from where the options differ."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.engines.diffusion.scaffold.forms import NOTHING, Gate, GateKind, Option
from carrara.engines.diffusion.scaffold.gates import GatePlan
from carrara.engines.diffusion.scaffold.lexicon import Lexicon


def plan(lexicon: Lexicon, *leads: str, kind: GateKind = "choice") -> GatePlan:
    options = tuple(Option(lead, NOTHING, lambda value: True) for lead in leads)
    return GatePlan.of(Gate(options, kind), lexicon)


@settings(deadline=None, max_examples=50)
@given(
    leads=st.lists(st.text("ab", min_size=1, max_size=4), min_size=2, max_size=6, unique=True),
    seed=st.integers(0, 99),
)
def test_probabilities_sum_to_one(lexicon: Lexicon, leads: list[str], seed: int) -> None:
    made = plan(lexicon, *leads)
    found = made.probabilities(lambda d, t: math.sin(seed + 7 * d + t) * 5, range(len(leads)))
    assert set(found) == set(range(len(leads)))
    assert math.isclose(sum(found.values()), 1)


def test_only_where_options_differ_counts(lexicon: Lexicon) -> None:
    made = plan(lexicon, "xxa", "xxb")
    assert made.common == 2
    assert {depth for depth, _ in made.wanted} == {2}
    found = made.probabilities(lambda d, t: 2.0 if lexicon.text([t]) == "b" else 0.0, (0, 1))
    assert math.isclose(found[1], 1 / (1 + math.exp(-2)))


def test_an_option_that_is_not_allowed_leaves_its_share_to_the_others(lexicon: Lexicon) -> None:
    made = plan(lexicon, "a", "ab", "b")
    assert made.probabilities(lambda d, t: 0.0, (1,)) == {1: 1.0}
    assert 0 not in made.probabilities(lambda d, t: 0.0, (1, 2))


def test_nothing_more_is_read_from_pads_and_ends_of_text(lexicon: Lexicon) -> None:
    made = plan(lexicon, ",", "", kind="property")
    tokens = {token for _, token in made.wanted}
    assert {lexicon.pad_id, *lexicon.eos_ids} < tokens
    found = made.probabilities(lambda d, t: 9.0 if t == lexicon.pad_id else 0.0, (0, 1))
    assert found[1] > 0.99


def test_a_longer_option_is_not_punished_for_its_length(lexicon: Lexicon) -> None:
    made = plan(lexicon, "a", "bxxxxxxxx")
    assert made.probabilities(lambda d, t: 0.0, (0, 1)) == {0: 0.5, 1: 0.5}


def test_long_options_with_a_long_common_beginning_are_read_where_they_part(
    lexicon: Lexicon,
) -> None:
    begin = "x" * 3000
    made = plan(lexicon, begin + "a", begin + "b", begin + "bc" + begin, begin)
    assert made.common == 3000
    assert made.width == 6002
    assert {depth for depth, _ in made.wanted} == {3000, 3001}
    found = made.probabilities(lambda d, t: 1.0 if lexicon.text([t]) == "b" else 0.0, range(4))
    assert math.isclose(sum(found.values()), 1)
    assert found[1] > found[0]


def test_options_of_which_each_begins_the_next_are_told_apart(lexicon: Lexicon) -> None:
    made = plan(lexicon, *("x" * length for length in range(1, 1500)))
    found = made.probabilities(lambda d, t: 0.0, range(1499))
    assert math.isclose(sum(found.values()), 1)
    assert found[0] > 0
