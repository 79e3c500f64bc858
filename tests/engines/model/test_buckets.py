"""A pass in a bucket computes what the plain pass computes, recorded or not, and harms no other row."""

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from carrara.engines.model.attention import full
from carrara.engines.model.buckets import Bucket, BucketPasses, Canvases
from carrara.engines.model.config import LlamaConfig
from carrara.engines.model.kv import KVCache
from carrara.engines.model.llama import Llama

CONFIG = LlamaConfig(128, 32, 64, 2, 4, 2, 16, 2048)


@pytest.fixture(scope="module")
def model() -> Llama:
    return Llama.random(CONFIG, spread=0.2)


class Recorder:
    """Keeps the function and computes it again, into the same tensor, as a graph does."""

    def __init__(self, error: Exception | None = None, off: float = 0.0) -> None:
        self.recorded, self.replayed, self.error, self.off = 0, 0, error, off

    def __call__(self, compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        if self.error is not None:
            raise self.error
        self.recorded += 1
        result = compute().clone()

        def replay() -> None:
            self.replayed += 1
            result.copy_(compute() + self.off)

        return replay, result


def some_canvases(draw: random.Random, rows: int) -> Canvases:
    chosen = sorted(draw.sample(range(rows), draw.randrange(1, rows + 1)))
    starts = [draw.randrange(1, 60) for _ in chosen]
    tokens = [[draw.randrange(5, 120) for _ in range(draw.randrange(1, 40))] for _ in chosen]
    wanted = [sorted(draw.sample(range(len(t)), draw.randrange(1, len(t) + 1))) for t in tokens]
    # Some positions of a canvas may be left out: they stay as they are.
    spans = [sorted(draw.sample(range(len(t) + 9), len(t))) for t in tokens]
    positions = [[s + at for at in span] for s, span in zip(starts, spans, strict=True)]
    return Canvases(chosen, tokens, positions, [row[-1] + 1 for row in positions], wanted)


def one(start: int, tokens: list[int], wanted: list[int], row: int = 0) -> Canvases:
    end = start + len(tokens)
    return Canvases([row], [tokens], [list(range(start, end))], [end], [wanted])


def fresh_cache(rows: int, slots: int) -> KVCache:
    cache = KVCache(CONFIG, rows, slots)
    cache.data.copy_(torch.randn(cache.data.shape, generator=torch.Generator().manual_seed(5)))
    return cache


def one_by_one(model: Llama, canvases: Canvases, cache: KVCache) -> list[Tensor]:
    found = []
    for row, tokens, positions, end, wanted in zip(
        canvases.rows,
        canvases.tokens,
        canvases.positions,
        canvases.ends,
        canvases.wanted,
        strict=True,
    ):
        hidden = model(
            torch.tensor([tokens]),
            torch.tensor([positions]),
            full(torch.tensor([end]), len(tokens), end),
            cache,
            rows=slice(row, row + 1),
            pick=torch.tensor([wanted]),
            head=False,
        )
        found.append(hidden[0])
    return found


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_a_bucket_gives_every_canvas_what_it_gets_alone(
    model: Llama, seed: int, recorded: bool
) -> None:
    draw = random.Random(seed)
    canvases = some_canvases(draw, 5)
    passes = BucketPasses(model, Recorder() if recorded else None)
    cache = fresh_cache(8, passes.room(canvases))
    wanted = one_by_one(model, canvases, fresh_cache(8, passes.room(canvases)))
    for _ in range(4 if recorded else 1):
        hidden = passes.run(canvases, cache)
        for row, alone in enumerate(wanted):
            torch.testing.assert_close(hidden[row, : len(alone)], alone, rtol=1e-4, atol=1e-5)
    assert passes.recorded == int(recorded)


@pytest.mark.parametrize("seed", range(12))
def test_what_lies_before_a_row_ends_and_in_other_rows_stays(model: Llama, seed: int) -> None:
    canvases = some_canvases(random.Random(seed), 5)
    passes = BucketPasses(model)
    cache = fresh_cache(8, passes.room(canvases))
    before = cache.data.clone()
    passes.run(canvases, cache)
    for row in range(8):
        if row in canvases.rows:
            number = canvases.rows.index(row)
            written = canvases.positions[number]
            kept = [at for at in range(canvases.ends[number]) if at not in written]
            assert torch.equal(cache.data[:, :, row, :, kept], before[:, :, row, :, kept])
        else:
            assert torch.equal(cache.data[:, :, row], before[:, :, row])


def test_a_bucket_is_recorded_once_and_replayed_for_all_that_fit_into_it(model: Llama) -> None:
    recorder = Recorder()
    passes = BucketPasses(model, recorder)
    cache = fresh_cache(2, 512)
    for number in range(5):
        tokens = [7 + number] * (17 + number)
        canvases = one(9, tokens, [0, 3])
        (alone,) = one_by_one(model, canvases, fresh_cache(2, 512))
        torch.testing.assert_close(passes.run(canvases, cache)[0, :2], alone, rtol=1e-4, atol=1e-5)
    # The second use records and compares, the last three replay.
    assert (recorder.recorded, recorder.replayed) == (1, 4)


def test_a_cache_at_another_address_is_recorded_anew(model: Llama) -> None:
    recorder = Recorder()
    passes = BucketPasses(model, recorder)
    canvases = one(9, [5] * 20, [1])
    caches = [fresh_cache(2, 512), fresh_cache(2, 512)]
    for cache in caches:
        for _ in range(3):
            passes.run(canvases, cache)
    assert recorder.recorded == 2


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [
        (Recorder(RuntimeError("operation not permitted\nwhen stream is capturing")), "permitted"),
        (Recorder(off=3.0), "differs"),
    ],
)
def test_where_recording_fails_passes_are_computed_plainly(
    model: Llama, recorder: Recorder, reason: str
) -> None:
    passes = BucketPasses(model, recorder)
    cache = fresh_cache(2, 512)
    canvases = one(9, [5] * 20, [1, 4], row=1)
    (alone,) = one_by_one(model, canvases, fresh_cache(2, 512))
    for _ in range(4):
        torch.testing.assert_close(passes.run(canvases, cache)[0, :2], alone, rtol=1e-4, atol=1e-5)
    assert passes.recorded == 0
    assert [reason in why for why in passes.refused.values()] == [True]


def test_buckets_are_few_and_hold_what_they_are_for() -> None:
    around = Bucket.around
    assert around([0], 1, 1, 1, False) == Bucket(1, 1, 256, 1, 0)
    assert around([0], 2, 1, 1, False) == Bucket(1, 8, 256, 8, 0)
    assert around([0, 1, 2], 33, 257, 9, False) == Bucket(4, 48, 512, 16, None)
    assert around([4, 5], 129, 256, 200, True) == Bucket(2, 192, 256, 256, 4, True)
    assert around([1, 0], 300, 256, 1, False) == Bucket(2, 384, 256, 8, None)
