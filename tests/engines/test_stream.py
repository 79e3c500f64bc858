"""A stream gives drafts while they are new, the completion always, and nothing is drafted where nobody listens."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest
import torch

from carrara.engines.autoregressive.answer import Answer
from carrara.engines.autoregressive.local import AutoregressiveEngine
from carrara.engines.contract import Json, Text
from carrara.engines.diffusion.engine import DiffusionEngine
from carrara.engines.diffusion.job import Job
from carrara.engines.diffusion.settings import Settings
from carrara.engines.errors import EngineFailed
from carrara.engines.local import LocalModel
from carrara.engines.pieces import OPEN, Piece, of_tokens, progress
from carrara.engines.request import (
    Completion,
    Limits,
    Message,
    Progress,
    Request,
    Sampling,
    Span,
    Watch,
)
from carrara.engines.scripted import ScriptedEngine
from carrara.engines.stream import MOST_DRAFTS, stream
from tests.engines.finality import hold

PERSON = Json.of(
    {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 9}, "age": {"type": "integer"}},
        "required": ["name", "age"],
    }
)
FAST = Settings(block_tokens=48, text_block_tokens=8, threshold=0.3, slot_tokens=6)


def ask(output: Json | Text = PERSON, tokens: int = 60) -> Request:
    return Request((Message("user", "the cat"),), output, Limits(tokens))


class Drafting(ScriptedEngine):
    """Shows a hundred drafts at once, then answers; or fails, or never ends."""

    def __init__(self, end: str = "answers") -> None:
        super().__init__("drafting", ["done"])
        self.end, self.was_cancelled = end, False

    async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
        assert watch is not None
        for step in range(100):
            watch(Progress("x" * step, step / 100, step))
        try:
            await (asyncio.sleep(0) if self.end != "hangs" else asyncio.Event().wait())
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        if self.end == "fails":
            raise EngineFailed("on purpose")
        return Completion("done")


def test_a_slow_reader_misses_drafts_and_never_the_completion() -> None:
    async def main() -> list[Progress | Completion]:
        found = []
        async for one in stream(Drafting(), ask()):
            await asyncio.sleep(0)
            found.append(one)
        return found

    *drafts, last = asyncio.run(main())
    assert isinstance(last, Completion)
    assert [d.step for d in drafts if isinstance(d, Progress)] == [*range(100 - MOST_DRAFTS, 100)]


def test_a_failure_comes_out_of_the_stream_behind_the_drafts() -> None:
    async def main() -> int:
        seen = 0
        drafts = stream(Drafting("fails"), ask())
        for _ in range(MOST_DRAFTS):
            assert isinstance(await anext(drafts), Progress)
            seen += 1
        with pytest.raises(EngineFailed, match="on purpose"):
            await anext(drafts)
        return seen

    assert asyncio.run(main()) == MOST_DRAFTS


def test_leaving_the_stream_gives_the_request_up() -> None:
    async def main() -> bool:
        engine = Drafting("hangs")
        async with aclosing(stream(engine, ask())) as drafts:  # type: ignore[type-var]
            async for _ in drafts:
                break
        return engine.was_cancelled

    assert asyncio.run(main())


def test_an_engine_without_drafts_yields_its_answer_as_one() -> None:
    async def main() -> list[Progress | Completion]:
        return [one async for one in stream(ScriptedEngine("s", ["hello"]), ask(Text()))]

    draft, last = asyncio.run(main())
    assert isinstance(draft, Progress)
    assert draft.spans == (Span(0, 5),)
    assert isinstance(last, Completion)


@pytest.mark.parametrize("output", [PERSON, Text()])
def test_a_canvas_becomes_final_pass_by_pass(output: Json | Text, tiny_folder: Path) -> None:
    async def main() -> list[Progress | Completion]:
        local = LocalModel.open(tiny_folder, dtype=torch.float32, device="cpu", threads=1)
        async with DiffusionEngine(local, settings=FAST) as engine:
            return [one async for one in engine.stream(ask(output, 24))]

    *drafts, last = asyncio.run(main())
    assert isinstance(last, Completion)
    for number, draft in enumerate(drafts):
        assert isinstance(draft, Progress)
        final = {at for span in draft.final for at in range(span.start, span.stop)}
        others = [draft.text[at] for at in range(len(draft.text)) if at not in final]
        # Free text may end before what is decided behind an open place.
        assert set(others) <= {"·"} or isinstance(output, Text)
        hold(draft, last.text)
        assert all(span.sure is None or 0 <= span.sure <= 1 for span in draft.final)
        assert draft.step == drafts[0].step + number
    assert isinstance(drafts[-1], Progress)
    assert drafts[-1].text == last.text
    assert drafts[-1].final[-1].stop == len(drafts[-1].text)
    assert any(span.sure is not None for span in drafts[-1].final)


def test_an_answer_of_the_ar_engine_grows_at_its_end(tiny_folder: Path) -> None:
    async def main() -> list[Progress | Completion]:
        local = LocalModel.open(tiny_folder, dtype=torch.float32, device="cpu", threads=1)
        async with AutoregressiveEngine(local) as engine:
            return [one async for one in engine.stream(ask())]

    *drafts, last = asyncio.run(main())
    assert isinstance(last, Completion)
    lengths = []
    for draft in drafts:
        assert isinstance(draft, Progress)
        assert last.text.startswith(draft.text)
        assert draft.settled == 1
        lengths.append(draft.final[-1].stop if draft.final else 0)
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 2


def test_where_nobody_listens_no_draft_is_built(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    for kind in (Job, Answer):
        plain = kind.progress
        monkeypatch.setattr(kind, "progress", lambda self, p=plain: built.append(1) or p(self))

    async def main() -> None:
        local = LocalModel.open(tiny_folder, dtype=torch.float32, device="cpu", threads=1)
        async with (
            DiffusionEngine(local, settings=FAST) as diffusion,
            AutoregressiveEngine(local) as ar,
        ):
            for engine in (diffusion, ar):
                await engine.complete(ask())
                assert not built
            for engine in (diffusion, ar):
                _ = [one async for one in engine.stream(ask())]
                assert built
                built.clear()

    asyncio.run(main())


def test_tokens_that_write_one_character_together_are_one_piece() -> None:
    raw = {0: b"\xe6\x9d", 1: b"\xb1", 2: b"a"}

    def decode(ids: object) -> str:
        return b"".join(raw[i] for i in ids).decode("utf-8", "replace")  # type: ignore[attr-defined]

    found = list(of_tokens([(0, 0.9), (1, 0.4), (2, None), (None, None), (0, 0.5)], decode))
    assert found == [Piece("東", 0.4), Piece("a"), OPEN, OPEN]
    found = list(of_tokens([(0, 0.9), (None, None), (1, 0.4), (2, 0.5)], decode))
    assert found == [OPEN, OPEN, OPEN, Piece("a", 0.5)]


@pytest.mark.parametrize("seed", range(6))
def test_what_is_called_final_stays(tiny_folder: Path, seed: int) -> None:
    """Random weights write single bytes of characters, in any order."""
    contract = Json.of(
        {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    )
    wanted = Request(
        (Message("user", f"the cat {seed}"),), contract, Limits(60), Sampling(1.0, seed=seed)
    )

    async def main() -> tuple[list[Progress], Completion]:
        local = LocalModel.open(tiny_folder, dtype=torch.float32, device="cpu", threads=1)
        async with DiffusionEngine(local, settings=FAST) as engine:
            seen: list[Progress] = []
            return seen, await engine.complete(wanted, seen.append)

    seen, done = asyncio.run(main())
    for draft in seen:
        at = 0
        for span in draft.spans:
            text = draft.text[span.start : span.stop]
            assert text in done.text[at:], (draft, done.text)
            at = done.text.index(text, at) + len(text)


def test_pinned_neighbours_are_one_span() -> None:
    parts = [Piece("{"), Piece('"a": '), Piece("1", 0.5), OPEN, Piece("}"), Piece("")]
    assert progress(parts, 0.5, 3) == Progress(
        '{"a": 1·}', 0.5, 3, (Span(0, 6), Span(6, 7, 0.5), Span(8, 9))
    )
