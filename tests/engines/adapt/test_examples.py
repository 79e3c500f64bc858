"""Examples are drawn as the engine decodes: windows, rooms, masks, and nothing asked that is visible and right."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.adapt.examples import Example, Examples
from carrara.engines.adapt.noise import Noise, Sketch, noised
from carrara.engines.adapt.pack import PADDING, SHARED, pack
from carrara.engines.adapt.recipe import Recipe
from carrara.engines.adapt.rows import read_rows
from carrara.engines.adapt.train import Training
from carrara.engines.diffusion.scaffold.lay_out import PINNED
from carrara.engines.tokenizer import Tokenizer
from tests.engines.adapt.conftest import SMALL

MASK = -7


@st.composite
def sketches(draw: st.DrawFn) -> Sketch:
    units = draw(st.lists(st.integers(PINNED, 5), min_size=1, max_size=24))
    kinds = sorted(set(units) - {PINNED})
    gates = frozenset(k for k in kinds if draw(st.booleans()))
    opened = frozenset(k for k in gates if draw(st.booleans()))
    return Sketch(list(range(100, 100 + len(units))), units, gates, opened)


@given(sketches(), st.integers(0, 999), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_masks_hide_decisions_only_gates_as_one_and_open_ones_always(
    sketch: Sketch, seed: int, all_noise: float, edits: float, pair: bool
) -> None:
    recipe = Recipe(all_noise=all_noise)
    for tokens, asked in noised(sketch, Noise(recipe, edits, MASK, random.Random(seed)), pair):
        hidden = {at for at, token in enumerate(tokens) if token == MASK}
        for at, unit in enumerate(sketch.units):
            if unit == PINNED:
                assert tokens[at] == sketch.ids[at]
                assert not asked[at]
            assert not (at in hidden and not asked[at])
            if unit in sketch.open:
                assert at in hidden
            if not asked[at]:
                assert tokens[at] == sketch.ids[at]
            if unit in sketch.gates:
                own = {i for i, other in enumerate(sketch.units) if other == unit}
                assert own <= hidden or not own & hidden


@given(sketches(), st.integers(0, 999))
def test_a_pair_of_maskings_asks_for_every_decision(sketch: Sketch, seed: int) -> None:
    recipe = Recipe(all_noise=0.0, in_order=0.0)
    noise = Noise(recipe, 0.0, MASK, random.Random(seed))
    found = noised(sketch, noise, pair=True)
    asked = {at for _, asks in found for at, ask in enumerate(asks) if ask}
    assert asked == {at for at, unit in enumerate(sketch.units) if unit != PINNED}


@given(sketches(), st.integers(0, 999), st.booleans())
def test_slots_in_order_are_seen_up_to_some_place(sketch: Sketch, seed: int, pair: bool) -> None:
    noise = Noise(Recipe(all_noise=0.0, in_order=1.0), 0.0, MASK, random.Random(seed))
    for tokens, _ in noised(sketch, noise, pair):
        for unit in set(sketch.units) - {PINNED}:
            own = [tokens[at] == MASK for at, other in enumerate(sketch.units) if other == unit]
            assert own == sorted(own)


@pytest.fixture
def examples(tiny_folder: Path) -> Examples:
    return Examples(Tokenizer.from_folder(tiny_folder), Recipe.of(SMALL))


def drawn(examples: Examples, data: Path, times: int = 20) -> list[Example]:
    rows = list(read_rows(data))
    return [
        examples.draw(row, seed % 6, random.Random(seed)) for row in rows for seed in range(times)
    ]


def test_a_canvas_never_shows_the_clean_text_beyond_its_window(
    examples: Examples, data: Path
) -> None:
    seen = 0
    for example in drawn(examples, data):
        for canvas in example.canvases:
            assert example.answer <= canvas.behind <= len(example.clean)
            assert len(canvas.tokens) == len(canvas.right) == len(canvas.weights)
            assert any(canvas.weights)
            seen += canvas.behind > example.answer
    assert seen  # later windows and later blocks are among them


def test_an_example_has_as_many_later_windows_as_the_recipe_says(
    tiny_folder: Path, data: Path
) -> None:
    row = next(row for row in read_rows(data) if row.task == "people")
    tokenizer = Tokenizer.from_folder(tiny_folder)

    def later(windows: int) -> set[int]:
        recipe = Recipe.of({**SMALL, "block_tokens": 16, "windows": windows})
        examples = Examples(tokenizer, recipe)
        found = [examples.draw(row, 0, random.Random(seed)) for seed in range(30)]
        return {len({canvas.behind for canvas in one.canvases}) for one in found if not one.taught}

    assert later(1) == {1}
    assert max(later(3)) == 3  # fewer where the answer has fewer, or nothing is hidden


def test_visible_tokens_are_asked_for_in_the_last_part_alone(
    examples: Examples, data: Path
) -> None:
    mask = examples.tokenizer.mask_id
    corrupted = {False: 0, True: 0}
    for row in read_rows(data):
        for seed in range(30):
            for late in (False, True):
                step = SMALL["steps"] - 1 if late else 0
                for canvas in examples.draw(row, step, random.Random(seed)).canvases:
                    assert mask not in canvas.right
                    places = zip(canvas.tokens, canvas.right, canvas.weights, strict=True)
                    for token, right, weight in places:
                        assert token in (mask, right) or weight > 0
                        corrupted[late] += token != mask and weight > 0
    assert corrupted[False] == 0
    assert corrupted[True] > 0


def test_the_same_seed_draws_the_same_example(examples: Examples, data: Path) -> None:
    assert drawn(examples, data, 3) == drawn(examples, data, 3)


def test_packing_keeps_every_target_and_shares_what_prompts_begin_with(
    examples: Examples, data: Path
) -> None:
    found = drawn(examples, data, 4)
    rows = pack(found, 220, shift=True)
    assert sum(row.examples for row in rows) == len(found)
    wanted = sum(bool(w) for e in found for c in e.canvases for w in c.weights)
    assert sum(len(row.denoised.tokens) for row in rows) == wanted
    taught = sum(len(e.clean) - e.answer for e in found if e.taught)
    assert sum(len(row.causal.tokens) for row in rows) == taught
    assert sum(map(len, rows)) < sum(example.positions for example in found)
    for row in rows:
        assert len(row) <= 220 or row.examples == 1
        assert PADDING not in row.segments
        assert row.segments[0] == SHARED
        assert row.segments == sorted(row.segments)


def test_without_the_shift_a_position_is_asked_for_itself(examples: Examples, data: Path) -> None:
    found = drawn(examples, data, 2)
    for row in pack(found, 220, shift=False):
        assert all(row.canvases[source] for source in row.denoised.sources)
    for row in pack(found, 220, shift=True):
        before = [row.positions[source] for source in row.denoised.sources]
        assert min(before) >= 0


def test_pools_are_the_same_whoever_makes_them(make: Callable[..., Training]) -> None:
    here, there = make("a").feed.maker, make("b").feed.maker
    for number in (3, 0, 3):
        assert here.pool(number) == there.pool(number)
    assert here.pool(0).rows != here.pool(1).rows


def test_growing_blocks_and_late_edits_follow_the_steps() -> None:
    recipe = Recipe(steps=100, growth=0.5, text_block_tokens=32, edits=0.1, edits_from=0.8)
    assert [recipe.text_blocks(step)[0] for step in (0, 20, 40, 49)] == [1, 4, 16, 32]
    assert recipe.text_blocks(60) == (8, 16, 32)
    assert [recipe.edits_at(step) for step in (0, 79, 80)] == [0.0, 0.0, 0.1]
    rates = [recipe.rate(step) for step in range(100)]
    assert max(rates) == pytest.approx(recipe.learning_rate)
    assert rates[0] < rates[2]
    assert rates[-1] < 0.11 * recipe.learning_rate
