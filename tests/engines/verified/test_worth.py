"""The bandit that decides how much to draft."""

from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.verified.worth import LONGEST_WAIT, Worth


def play(worth: Worth, seconds: list[float], decisions: list[int], rounds: int) -> list[int]:
    """Choose and take, where way n takes seconds[n] for decisions[n]; the ways that were chosen."""
    chosen = []
    for _ in range(rounds):
        way = worth.choose()
        worth.took(way, seconds[way], decisions[way])
        chosen.append(way)
    return chosen


def test_a_poor_denoiser_is_tried_ever_more_rarely_and_a_longer_draft_never() -> None:
    chosen = play(Worth((0, 1, 3)), [1.0, 3.0, 9.0], [1, 1, 1], 2000)
    assert set(chosen) == {0, 1}
    assert chosen[:10].count(1) >= 1
    assert chosen.count(1) <= 16
    assert sum(3.0 if way else 1.0 for way in chosen) < 1.02 * 2000


def test_a_good_one_is_found_step_by_step_and_kept() -> None:
    chosen = play(Worth((0, 1, 3)), [1.0, 2.0, 4.0], [1, 4, 16], 400)
    assert chosen[-50:].count(2) >= 45
    assert chosen.index(2) < 40


def test_a_way_that_gets_worse_is_left() -> None:
    worth = Worth((0, 1), best=1)
    play(worth, [1.0, 1.0], [1, 4], 100)
    assert worth.best == 1
    play(worth, [1.0, 4.0], [1, 1], 2 * LONGEST_WAIT)
    assert worth.best == 0


def test_a_single_way_is_always_taken() -> None:
    assert set(play(Worth((None,)), [1.0], [1], 50)) == {0}


@given(
    st.lists(st.tuples(st.floats(0.01, 10), st.integers(1, 20)), min_size=1, max_size=4),
    st.integers(1, 300),
)
def test_it_never_chooses_a_way_that_is_not_there(
    costs: list[tuple[float, int]], rounds: int
) -> None:
    seconds, decisions = zip(*costs, strict=True)
    chosen = play(Worth(range(len(costs))), list(seconds), list(decisions), rounds)
    assert set(chosen) <= set(range(len(costs)))
