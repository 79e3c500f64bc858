"""Greedy is greedy; warmth draws by the probabilities, from each row's own generator."""

import pytest
import torch

from carrara.engines.autoregressive.sampling import Warmth, choose, draw
from carrara.engines.request import Sampling


def warm(temperature: float = 1.0, top_p: float = 1.0, seed: int | None = 1) -> Warmth:
    made = Warmth.of(Sampling(temperature, top_p, seed))
    assert made is not None
    return made


def test_temperature_zero_takes_the_best_and_tells_its_probability() -> None:
    assert Warmth.of(Sampling()) is None
    logits = torch.tensor([[0.0, 2.0, 1.0], [5.0, 5.0, -torch.inf]])
    tokens, chances = choose(logits.clone(), [None, None])
    assert tokens == [1, 0]
    assert chances == pytest.approx([torch.softmax(logits[0], 0)[1].item(), 0.5])


def test_a_row_draws_the_same_whoever_shares_the_batch() -> None:
    logits = torch.randn(5, 300)
    alone = [choose(logits[2:3].clone(), [how])[0][0] for how in [warm(seed=7)] for _ in range(10)]
    how = warm(seed=7)
    shared = []
    for _ in range(10):
        others = [warm(seed=None), None, how, warm(seed=3), None]
        shared.append(choose(logits.clone(), others)[0][2])
    assert alone == shared
    assert len(set(alone)) > 1


def test_draws_follow_the_probabilities() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2]))
    how = warm(seed=0)
    counts = torch.bincount(torch.tensor([draw(logits, how) for _ in range(4000)]), minlength=3)
    assert counts.tolist() == pytest.approx([2000, 1200, 800], abs=120)


def test_a_low_temperature_is_nearly_greedy() -> None:
    logits = torch.tensor([1.0, 1.5, 0.0])
    assert {draw(logits, warm(0.01, seed=n)) for n in range(50)} == {1}


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.4, {2}), (0.6, {2, 0}), (0.8, {0, 2, 3}), (1.0, {0, 1, 2, 3})]
)
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p: float, kept: set[int]) -> None:
    logits = torch.log(torch.tensor([0.25, 0.05, 0.5, 0.2]))
    assert {draw(logits, warm(1.0, top_p, seed)) for seed in range(200)} == kept


def test_what_is_not_allowed_is_never_drawn() -> None:
    logits = torch.full((1000,), -torch.inf)
    logits[[3, 999]] = torch.tensor([0.0, -3.0])
    assert {draw(logits, warm(5.0, seed=n)) for n in range(100)} == {3, 999}


def test_the_random_number_may_be_the_highest_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda *a, **k: torch.tensor(1.0, dtype=torch.float64))
    assert draw(torch.tensor([0.0, 0.0, -torch.inf]), warm()) == 1
