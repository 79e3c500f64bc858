"""Between full passes only what is asked about or has changed is computed again."""

import asyncio
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.contract import Json
from carrara.engines.diffusion.engine import DiffusionEngine
from carrara.engines.diffusion.settings import Settings
from carrara.engines.diffusion.stale import Stale
from carrara.engines.local import LocalModel
from carrara.engines.model.llama import Llama
from carrara.engines.request import Completion, Limits, Message, Request

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


def test_an_unchanged_canvas_is_asked_about_where_it_is_undecided() -> None:
    stale = Stale()
    assert stale.offsets(1, 0, 5, [7, 9, 9, 8], [1], refresh=9) == [0, 1, 2, 3]
    assert stale.offsets(1, 0, 5, [7, 3, 9, 8], [2], refresh=9) == [1, 2]
    assert stale.offsets(1, 0, 5, [7, 3, 4, 8, 8], [3], refresh=9) == [2, 3, 4]


def test_all_is_computed_anew_where_the_canvas_moved_or_was_forgotten() -> None:
    tokens = [7, 9, 9]
    for change in ((2, 0, 5), (1, 1, 5), (1, 0, 6)):
        stale = Stale()
        stale.offsets(1, 0, 5, tokens, [0], refresh=9)
        assert stale.offsets(*change, tokens, [0], refresh=9) == [0, 1, 2]
    stale = Stale()
    stale.offsets(1, 0, 5, tokens, [0], refresh=9)
    stale.keep([2])
    assert stale.offsets(1, 0, 5, tokens, [0], refresh=9) == [0, 1, 2]


def test_a_canvas_that_moves_to_another_row_takes_along_what_was_computed() -> None:
    stale = Stale()
    stale.offsets(1, 3, 5, [7, 9, 9], [0], refresh=9)
    assert stale.moved(3, 1) == 8
    assert stale.moved(2, 0) == 0
    assert stale.offsets(1, 1, 5, [7, 9, 9], [2], refresh=9) == [2]


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=12),
    st.integers(1, 4),
)
def test_no_position_is_left_with_another_token_than_was_computed(
    canvases: list[list[int]], refresh: int
) -> None:
    stale, computed, since = Stale(), dict[int, int](), 0
    for tokens in canvases:
        found = stale.offsets(1, 0, 5, tokens, [0], refresh)
        since = 0 if found == list(range(len(tokens))) else since + 1
        assert since < refresh
        computed |= {at: tokens[at] for at in found}
        assert [computed[at] for at in range(len(tokens))] == tokens


def test_an_engine_that_refreshes_seldom_computes_less_and_holds_its_contract(
    tiny_folder: Path,
) -> None:
    def answered(refresh: int) -> tuple[Completion, list[int]]:
        settings = Settings(threshold=0.9, slot_tokens=6, canvas_refresh_passes=refresh)
        widths = []

        async def main() -> Completion:
            local = LocalModel.open(tiny_folder, dtype=torch.float32, device="cpu", threads=1)
            async with DiffusionEngine(local, settings=settings) as engine:
                plain = Llama.forward

                def watched(
                    self: Llama, tokens: torch.Tensor, *rest: object, **more: object
                ) -> torch.Tensor:
                    widths.append(tokens.shape[1])
                    return plain(self, tokens, *rest, **more)  # type: ignore[arg-type]

                Llama.forward = watched  # type: ignore[method-assign, assignment]
                try:
                    message = Message("user", "the cat")
                    return await engine.complete(Request((message,), Json.of(PERSON), Limits(60)))
                finally:
                    Llama.forward = plain  # type: ignore[method-assign]

        return asyncio.run(main()), widths

    exact, all_widths = answered(1)
    found, widths = answered(50)
    assert Json.of(PERSON).parse(found.text) == found.value
    assert all_widths[1] == widths[1] == max(widths[1:])
    assert sum(widths) / found.usage.passes < 0.7 * sum(all_widths) / exact.usage.passes
