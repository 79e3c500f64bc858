"""Passes that run ahead of the host give what passes give that the host reads one by one: tokens, probabilities, their
order, and the number of passes of each canvas."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from carrara.engines.contract import Choice, Contract, Text
from carrara.engines.diffusion import canvas_pass
from carrara.engines.diffusion import run_ahead as module_of_runs
from carrara.engines.diffusion.batch import Batcher, BatchLimits
from carrara.engines.diffusion.engine import DiffusionEngine, default_limits
from carrara.engines.diffusion.free_canvas import FreeCanvas
from carrara.engines.diffusion.job import Job
from carrara.engines.diffusion.reader import MaskTable
from carrara.engines.diffusion.rule_table import RULES
from carrara.engines.diffusion.rules import Edits
from carrara.engines.diffusion.run_ahead import Reader, RunAhead, can_run_ahead
from carrara.engines.diffusion.settings import Settings
from carrara.engines.diffusion.together import Glance, read_together
from carrara.engines.errors import EngineFailed
from carrara.engines.local import LocalModel
from carrara.engines.request import (
    Completion,
    Limits,
    Message,
    Progress,
    Request,
    Rule,
    Sampling,
)

T = TypeVar("T")
MASK, EOS, VOCABULARY, HIDDEN = 0, 1, 24, 16
AHEAD = [
    Rule("threshold", {"threshold": 0.3}),
    Rule("threshold", {"threshold": 0.9}),
    Rule("fixed_steps", {"steps": 3}),
    Rule("factor", {"factor": 1.5}),
    Rule("entropy_bounded", {"bound": 2.0}),
    Rule("prophet", {"steps": 4}),
]
SETTINGS = Settings(block_tokens=32, text_block_tokens=8, threshold=0.3, slot_tokens=4)


def a_job(rule: Rule, length: int, block: int, prompt: int, most: int | None, shift: bool) -> Job:
    request = Request((), Text(), Limits(length, max_steps=most), rule=rule)
    canvas = FreeCanvas(
        [MASK] * length, block, MASK, frozenset({EOS}), edits=Edits.of(rule), decode=str
    )
    job = Job(request, list(range(2, 2 + prompt)), canvas, Settings(logit_shift=shift))
    job.last = torch.linspace(-2, 2, HIDDEN) if shift else None
    return job


@dataclass
class ToyModel:
    """Hidden states that depend on all tokens of a row, which the cache would hold in part."""

    seed: int

    def __post_init__(self) -> None:
        made = torch.Generator().manual_seed(self.seed)
        self.embedding = torch.randn(VOCABULARY, HIDDEN, generator=made)
        self.place = torch.randn(64, HIDDEN, generator=made)
        self.weight = torch.randn(VOCABULARY, HIDDEN, generator=made)
        self.weight[MASK] = 0.0

    def head(self, states: Tensor) -> Tensor:
        return (states[:, None] * self.weight).sum(-1)  # unlike a product, the same for any number

    def hidden(self, tokens: Tensor) -> Tensor:
        """tokens [W] of one canvas, unpadded -> [W, D]."""
        whole = self.embedding[tokens].sum(0) / 3
        return torch.sin(whole + self.place[: len(tokens)] + self.embedding[tokens])


def sources(job: Job) -> list[int]:
    assert job.view is not None
    return [max(offset - job.settings.logit_shift, 0) for offset in job.view.offsets]


def pass_of_all(model: ToyModel, jobs: Sequence[Job]) -> None:
    """One pass as the host reads it."""
    glances = []
    for job in jobs:
        assert job.view is not None
        hidden = model.hidden(torch.tensor(job.view.tokens))[sources(job)]
        if job.needs_last:
            assert job.last is not None
            hidden = torch.cat((job.last[None], hidden[1:]))
        glances.append(Glance(job.view, hidden))
    table = MaskTable()
    readings = read_together(glances, model.head, model.weight, table, 5)
    for job, reading, glance in zip(jobs, readings, glances, strict=True):
        job.take(model.head(glance.hidden) if job.needs_logits else reading, table)


def run_ahead(model: ToyModel, jobs: Sequence[Job], passes: int, lag: int) -> list[int]:
    """Passes that the device makes by itself; how many each job took."""
    fed = [job.view.tokens for job in jobs if job.view is not None]
    wanted = [sources(job) for job in jobs]
    width, starts = max(map(len, fed)), [sum(map(len, fed[:n])) for n in range(len(fed))]
    cells = [list(range(at, at + len(row))) for at, row in zip(starts, fed, strict=True)]
    places = [[*row, *[row[-1]] * (width - len(row))] for row in cells]

    def forward(tokens: Tensor) -> Tensor:
        found = torch.zeros(len(jobs), max(map(len, wanted)), HIDDEN)
        for number, (row, picks) in enumerate(zip(fed, wanted, strict=True)):
            found[number, : len(picks)] = model.hidden(tokens[number, : len(row)])[picks]
        return found

    reader = Reader(model.head, MaskTable(), 5)
    device = torch.device("cpu")
    ahead = RunAhead(jobs, fed, [0] * len(jobs), places, reader, device, lag)
    found = ahead.run(forward, passes)
    for job, one in zip(jobs, found, strict=True):
        job.take_committed(one)
    return [one.passes for one in found]


@contextmanager
def commits_noted(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, list[Any]]]:
    """What each canvas commits, in order."""
    noted: dict[int, list[Any]] = {}
    plain = FreeCanvas.commit

    def commit(self: FreeCanvas, decided: Any) -> None:
        found = list(decided)
        noted.setdefault(id(self), []).extend((self.begin + at, *rest) for at, *rest in found)
        plain(self, found)

    with monkeypatch.context() as patched:
        patched.setattr(FreeCanvas, "commit", commit)
        yield noted


jobs_of = st.lists(
    st.tuples(
        st.sampled_from(AHEAD),
        st.integers(1, 17),
        st.integers(1, 7),
        st.integers(1, 5),
        st.none() | st.integers(1, 9),
    ),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, max_examples=80)
@given(jobs_of, st.booleans(), st.integers(2, 6), st.integers(0, 2), st.integers(0, 10**6))
def test_a_canvas_commits_the_same_in_the_same_order_and_passes(
    made: list[Any], shift: bool, passes: int, lag: int, seed: int
) -> None:
    model, patch = ToyModel(seed), pytest.MonkeyPatch()
    plain, ahead = ([a_job(*one, shift) for one in made] for _ in range(2))
    with commits_noted(patch) as noted:
        while live := [job for job in plain if not job.is_finished]:
            pass_of_all(model, live)
        while live := [job for job in ahead if not job.is_finished]:
            assert can_run_ahead(live)
            assert all(1 <= took <= passes for took in run_ahead(model, live, passes, lag))
    for one, other in zip(plain, ahead, strict=True):
        mine, others = noted.get(id(one.canvas), []), noted.get(id(other.canvas), [])
        assert [(at, token) for at, token, _ in others] == [(at, token) for at, token, _ in mine]
        assert [c for *_, c in others] == pytest.approx([c for *_, c in mine], rel=1e-5)
        assert (other.passes, other.cut, other.tokens) == (one.passes, one.cut, one.tokens)
        assert other.finish()[:3] == one.finish()[:3]


def test_a_run_ends_once_half_of_its_canvases_are_frozen() -> None:
    model, taken = ToyModel(3), []
    for lag in (0, 1):
        short = [a_job(Rule("fixed_steps", {"steps": 1}), 4, 4, 2, None, False) for _ in range(2)]
        long = [a_job(Rule("threshold", {"threshold": 1.0}), 9, 9, 2, None, False) for _ in short]
        taken.append(run_ahead(model, [*short, *long], 6, lag))
    assert taken == [[1, 1, 1, 1], [1, 1, 2, 2]]


def test_a_canvas_without_numbers_is_found_out_and_the_others_go_on() -> None:
    model = ToyModel(3)
    jobs = [a_job(AHEAD[1], 6, 6, 2, None, True) for _ in range(3)]
    jobs[1].last = torch.full((HIDDEN,), torch.nan)
    fine = [a_job(AHEAD[1], 6, 6, 2, None, True) for _ in range(3)]
    run_ahead(model, fine, 2, 0)
    with pytest.raises(FloatingPointError, match="no finite logits"):
        run_ahead(model, jobs, 2, 0)
    assert jobs[0].canvas.tokens == fine[0].canvas.tokens
    assert jobs[1].passes == 0


class Nowhere:
    """A transfer that says that nobody is frozen, and in the end that nothing happened."""

    def __init__(self, source: Tensor) -> None:
        self.source = source

    def number(self) -> float:
        return 0.0

    def values(self) -> Any:
        return torch.zeros(self.source.shape).tolist()


class MetaTable(MaskTable):
    def masks(self, rows: Any) -> Tensor:
        return torch.ones(len(rows), VOCABULARY, dtype=torch.bool, device="meta")


@pytest.mark.parametrize("most", [None, 5])
def test_nothing_in_a_run_asks_the_device_for_a_value_or_mixes_it_with_the_host(
    most: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On tensors that have a device and no values, either would be an error."""
    monkeypatch.setattr(module_of_runs, "Transfer", Nowhere)
    meta = torch.device("meta")
    jobs = [a_job(rule, 6, 6, 2, most, True) for rule in AHEAD]
    fed = [job.view.tokens for job in jobs if job.view is not None]
    for job in jobs:
        job.last = torch.zeros(HIDDEN, device=meta)
    weight, places = torch.zeros(HIDDEN, VOCABULARY, device=meta), [range(6)] * len(jobs)
    reader = Reader(lambda states: states @ weight, MetaTable(), 5)
    ahead = RunAhead(jobs, fed, [0] * len(jobs), places, reader, meta)
    hidden = torch.zeros(len(jobs), 6, HIDDEN, device=meta)
    found = ahead.run(lambda tokens: hidden + tokens.sum(), 3)
    assert [one.passes for one in found] == [0] * len(jobs)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_with_a_memory_waits_for_the_host(name: str) -> None:
    job = a_job(Rule(name), 6, 6, 2, None, False)
    assert can_run_ahead([job]) == (name in {rule.name for rule in AHEAD})
    assert can_run_ahead([job, a_job(AHEAD[0], 6, 6, 2, None, False)]) == job.can_run_ahead


@pytest.mark.parametrize(
    "settings",
    [
        Settings(canvas_refresh_passes=2),
        Settings(attention="full", context_refresh_passes=2),
    ],
)
def test_what_is_computed_now_and_then_waits_for_the_host(settings: Settings) -> None:
    job = a_job(AHEAD[0], 6, 6, 2, None, False)
    assert not Job(job.request, [2, 3], FreeCanvas([MASK] * 6, 6, MASK), settings).can_run_ahead


def test_the_host_reads_each_pass_while_somebody_waits() -> None:
    batch = Batcher(BatchLimits(rows=1, quiet_chunk=8, passes_per_sync=4))
    batch.offer(1, 5, 20)
    assert batch.plan().passes == 4
    batch.offer(2, 12, 20)
    assert batch.plan().passes == 1  # another one would sit down
    batch.leave(1)
    assert batch.plan().passes == 1  # its prompt is not read yet
    assert batch.plan().passes == 4


# The engine


def ask(number: int, contract: Contract | None = None, tokens: int = 30, **more: Any) -> Request:
    message = Message("user", "the cat sat on the mat " * (number % 4) + f"{number}")
    return Request((message,), contract or Text(), Limits(tokens), **more)


ASKED = [
    *(ask(n, tokens=14, rule=rule) for n, rule in enumerate(AHEAD)),
    *(
        replace(ask(n, rule=rule), limits=Limits(14, max_steps=5))
        for n, rule in enumerate(AHEAD[::2])
    ),
    ask(3, Text(20), stop=("a",)),
]
OTHERS = [
    ask(1, Choice(("one", "two"))),
    ask(2, rule=Rule("credit")),
    ask(2, sampling=Sampling(temperature=1.0, seed=5)),
    ask(4, rule=Rule("edit")),
]


@pytest.fixture
def run(tiny_folder: Path) -> Callable[..., Any]:
    def opened(
        work: Callable[[DiffusionEngine], Awaitable[T]],
        passes: int,
        quick: bool | None = True,
        settings: Settings = SETTINGS,
    ) -> T:
        async def main() -> T:
            local = LocalModel.open(
                tiny_folder, dtype=torch.float32, device="cpu", threads=1, quick=quick
            )
            limits = BatchLimits(passes_per_sync=passes)
            async with DiffusionEngine(local, settings=settings, limits=limits) as engine:
                return await work(engine)

        return asyncio.run(main())

    return opened


async def one_by_one(engine: DiffusionEngine) -> list[Completion]:
    return [await engine.complete(request) for request in ASKED]


async def together(engine: DiffusionEngine) -> list[Completion]:
    return list(await asyncio.gather(*map(engine.complete, ASKED)))


def told(found: list[Completion]) -> list[Any]:
    return [
        (o.text, o.stop, o.usage.passes, o.usage.completion_tokens, o.confidence) for o in found
    ]


@pytest.mark.parametrize(
    ("attention", "shift"), [("causal", True), ("causal", False), ("block", True), ("full", False)]
)
def test_answers_are_the_same_alone_and_in_company(
    attention: Any, shift: bool, run: Callable[..., Any]
) -> None:
    how = replace(SETTINGS, attention=attention, attention_block_tokens=8, logit_shift=shift)
    plain = run(one_by_one, 1, settings=how)
    assert told(run(one_by_one, 4, settings=how)) == told(plain)
    for one, other in zip(run(together, 4, settings=how), plain, strict=True):
        assert_same(one, other, 1e-5)


def assert_same(one: Completion, other: Completion, within: float) -> None:
    assert told([one])[0][:4] == told([other])[0][:4]
    assert one.confidence.tokens == pytest.approx(other.confidence.tokens, rel=within)


def test_what_waits_for_the_host_gets_its_answers_beside_what_does_not(
    run: Callable[..., Any],
) -> None:
    async def work(engine: DiffusionEngine) -> list[Completion]:
        return list(await asyncio.gather(*map(engine.complete, [*OTHERS, *ASKED])))

    assert told(run(work, 4)) == told(run(work, 1))


def test_recorded_passes_run_ahead_too(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run(one_by_one, 1, quick=False)
    recorded: list[int] = []

    def record(compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        result = compute().clone()

        def replay() -> None:
            recorded.append(1)
            result.copy_(compute())

        return replay, result

    monkeypatch.setattr(canvas_pass, "recorder", lambda device: record)
    for work in (one_by_one, together):
        for one, other in zip(run(work, 4, quick=False), plain, strict=True):
            assert_same(one, other, 1e-3)
    assert len(recorded) > 20


def test_a_listener_sees_every_pass_and_gets_the_same_answer(run: Callable[..., Any]) -> None:
    seen: list[Progress] = []
    found = run(lambda engine: engine.complete(ASKED[0], seen.append), 4)
    assert [draft.step for draft in seen] == list(range(1, found.usage.passes + 1))
    assert told([found]) == told([run(lambda engine: engine.complete(ASKED[0]), 1)])


def test_numbers_that_are_none_fail_their_request_alone(run: Callable[..., Any]) -> None:
    async def work(engine: DiffusionEngine) -> list[Any]:
        def spoil(module: Any, given: Any, hidden: Tensor) -> Tensor:
            """The row of the longest prompt."""
            return hidden.masked_fill((given[1].amin(1) > 110)[:, None, None], torch.nan)

        odd = Request((Message("user", "the dog " * 30),), Text(), Limits(24))
        handle = engine.local.model.register_forward_hook(spoil)
        calls = map(engine.complete, [*ASKED, odd])
        found = list(await asyncio.gather(*calls, return_exceptions=True))
        handle.remove()
        return found

    *found, failed = run(work, 4)
    assert isinstance(failed, EngineFailed)
    assert str(failed) == "a canvas could not be refined: the model gave no finite logits"
    assert told(found) == told(run(one_by_one, 1))


def test_a_cancelled_request_leaves_and_the_others_get_their_answers(
    run: Callable[..., Any],
) -> None:
    async def work(engine: DiffusionEngine) -> list[Completion]:
        gone = asyncio.create_task(engine.complete(ask(9, tokens=200)))
        stays = asyncio.create_task(together(engine))
        await engine.complete(ask(10, tokens=8))  # all of them are on their way
        assert not gone.done()
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        found = await stays
        assert "0 canvases, 0 waiting" in engine.health().line
        return found

    assert told(run(work, 4)) == told(run(one_by_one, 1))


TO_HOST = ("tolist", "item", "cpu", "__bool__", "__int__", "__float__", "__index__", "nonzero")
READS = ("together.py", "reader.py", "run_ahead.py", "transfer.py")


@pytest.mark.parametrize(("passes", "most"), [(1, 30), (4, 8)])
def test_the_host_waits_for_the_device_once_in_a_run(
    passes: int, most: int, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU is waited for where tensors become Python values; so they are counted where passes are read."""
    asked, waits = replace(ASKED[1], limits=Limits(30)), 0

    async def work(engine: DiffusionEngine) -> int:
        await engine.complete(asked)  # what is made at first use is there
        with monkeypatch.context() as patched:
            for name in TO_HOST:
                plain = getattr(Tensor, name)

                def noted(self: Tensor, *given: Any, plain: Any = plain) -> Any:
                    nonlocal waits
                    waits += Path(sys._getframe(1).f_code.co_filename).name in READS
                    return plain(self, *given)

                patched.setattr(Tensor, name, noted)
            return (await engine.complete(asked)).usage.passes

    assert run(work, passes) == 30
    assert waits == most


def test_a_gpu_makes_passes_back_to_back_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Gpu:
        device = torch.device("cuda")

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 << 30, 20 << 30))
    assert default_limits(Gpu()).passes_per_sync == 4  # type: ignore[arg-type]
    Gpu.device = torch.device("cpu")
    assert default_limits(Gpu()).passes_per_sync == 1  # type: ignore[arg-type]
