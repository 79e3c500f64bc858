"""Reading a whole pass at once finds what reading one canvas after the other finds."""

import random

import numpy as np
import pytest
import torch
from torch import Tensor

from carrara.engines.diffusion.canvas import Reading, Site, View
from carrara.engines.diffusion.reader import MaskTable, checked, read
from carrara.engines.diffusion.scaffold.lexicon import Row
from carrara.engines.diffusion.together import Glance, read_together, tile_rows
from carrara.engines.model.integer import IntegerWeight, can_be_integer

VOCAB, HIDDEN = 96, 32
WEIGHT = torch.randn(VOCAB, HIDDEN, generator=torch.Generator().manual_seed(1))


def head(x: Tensor) -> Tensor:
    return x @ WEIGHT.T


def some_row(draw: random.Random) -> Row:
    mask = np.array([draw.random() < 0.2 for _ in range(VOCAB)])
    mask[draw.randrange(VOCAB)] = True
    return Row(mask, None)


def some_glance(draw: random.Random, rows: list[Row]) -> Glance:
    free = draw.random() < 0.3
    sites = tuple(
        Site(offset, None if free else draw.choice(rows))
        for offset in sorted(draw.sample(range(20), draw.randrange(6)))
    )
    pairs = tuple((draw.randrange(20), draw.randrange(VOCAB)) for _ in range(draw.randrange(4)))
    view = View((0,) * 20, sites, pairs)
    generator = torch.Generator().manual_seed(draw.randrange(1000))
    return Glance(view, torch.randn(len(view.offsets), HIDDEN, generator=generator))


def same(found: Reading, wanted: Reading) -> None:
    assert list(found.tokens) == list(wanted.tokens)
    for name in ("sure", "chance", "logits"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("tile", [1, 4, 1000])
@pytest.mark.parametrize("seed", range(6))
def test_a_pass_is_read_like_its_canvases_one_by_one(tile: int, seed: int) -> None:
    draw = random.Random(seed)
    rows = [some_row(draw) for _ in range(5)]
    glances = [some_glance(draw, rows) for _ in range(7)]
    found = read_together(glances, head, WEIGHT, MaskTable(), tile)
    for glance, reading in zip(glances, found, strict=True):
        same(reading, read(head(glance.hidden), glance.view, MaskTable()))


@pytest.mark.skipif(
    not can_be_integer(torch.device("cpu")), reason="this build of torch has no integer products"
)
@pytest.mark.parametrize("tile", [3, 85])
def test_an_integer_head_gives_a_canvas_the_same_bits_in_any_company(tile: int) -> None:
    draw, small = random.Random(3), IntegerWeight(WEIGHT)
    rows = [some_row(draw) for _ in range(5)]
    glances = [some_glance(draw, rows) for _ in range(9)]
    alone = [read_together([glance], small, WEIGHT, MaskTable(), tile)[0] for glance in glances]
    together = read_together(glances[::-1], small, WEIGHT, MaskTable(), tile)[::-1]
    assert together == alone


def test_no_tile_holds_more_positions_than_it_may() -> None:
    seen = []

    def watched(x: Tensor) -> Tensor:
        seen.append(len(x))
        return head(x)

    draw = random.Random(5)
    glances = [some_glance(draw, [some_row(draw)]) for _ in range(12)]
    read_together(glances, watched, WEIGHT, MaskTable(), 3)
    assert max(seen) == 3
    assert sum(seen) == sum(len(glance.view.sites) for glance in glances)


def test_only_the_canvas_without_numbers_is_found_broken() -> None:
    draw = random.Random(8)
    view = View((0, 0), (Site(0, some_row(draw)), Site(1, some_row(draw))), ())
    good, bad = torch.randn(2, HIDDEN), torch.full((2, HIDDEN), torch.nan)
    found = read_together([Glance(view, good), Glance(view, bad)], head, WEIGHT, MaskTable(), 8)
    assert checked(found[0]) is found[0]
    with pytest.raises(FloatingPointError):
        checked(found[1])


def test_tiles_are_as_large_as_memory_allows() -> None:
    assert tile_rows(torch.device("cpu"), 49152) == 85
    assert tile_rows(torch.device("cuda"), 1 << 30) == 1
