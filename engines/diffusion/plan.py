"""The words of the batcher: its limits, and the plan of the next passes."""

from __future__ import annotations

from dataclasses import dataclass

from carrara.engines.limit_checks import check_whole
from carrara.engines.seats import Feed, Spot


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """`rows` canvases at once, `waiting` more in the queue, `bytes` of cache and workspace.

    `chunk` prompt tokens a pass while others are denoising, `quiet_chunk` while nobody is. `patience`: who came so many
    passes earlier goes before a priority that is higher by one. `least`: narrower passes over prompts are padded to so
    many tokens a row. `passes_per_sync`: so many denoising passes may be made before the host reads one, while nobody
    waits for it (`run_ahead`). Each is a whole number of 1 or more, `least` may be 0.

    About a quarter of the canvases of short answers end in each round, and as many prompts come: with 16 rows and a
    `chunk` of 256, one seat in five waited for its prompt instead of being denoised; with 512 nearly none does.
    """

    rows: int = 16
    waiting: int = 256
    bytes: int = 1 << 30
    chunk: int = 512
    quiet_chunk: int = 1024
    patience: int = 64
    least: int = 16
    passes_per_sync: int = 1

    def __post_init__(self) -> None:
        check_whole(self, frozenset({"least"}))


@dataclass(frozen=True, slots=True)
class Block:
    """What a denoising pass computes of one canvas: `width` tokens, and the logits of `wanted` positions."""

    width: int = 1
    wanted: int = 1


@dataclass(frozen=True, slots=True)
class Move:
    """Copy the first `length` slots of cache row `source` to row `target`."""

    source: int
    target: int
    length: int


@dataclass(frozen=True, slots=True)
class Plan:
    """First the moves, then the cache gets `rows` rows of `slots` (what is beyond goes; all of it, if `is_empty`), then
    one causal pass over the feeds, then a denoising pass over each group of spots.

    There is one group, unless their passes together would take too much memory. `refused` can never be denoised within
    the limit of bytes; they have left. `passes` may be made over each group before the host reads one: more than one
    only where nobody waits for a row or for the rest of a prompt. `can_be_one`: feed and spot are of one request that
    is alone, and there is memory for both in one pass.
    """

    moves: tuple[Move, ...]
    feeds: tuple[Feed, ...]
    groups: tuple[tuple[Spot, ...], ...]
    rows: int
    slots: int
    is_empty: bool = False
    refused: tuple[int, ...] = ()
    passes: int = 1
    can_be_one: bool = False

    @property
    def spots(self) -> tuple[Spot, ...]:
        return tuple(spot for group in self.groups for spot in group)


@dataclass(slots=True)
class Seat:
    """A request in the batch, or waiting for it.

    `known` tokens exist, `fed` of them are in the cache, `found` (None: not asked) need not be fed. `need`: the slot
    that its canvas may reach. `lead`: tokens before a feed that it may compute again.
    """

    ticket: int
    prompt: int
    need: int
    block: Block
    lead: int
    rank: tuple[float, int]
    known: int
    row: int = 0
    fed: int = 0
    found: int | None = None

    @property
    def is_ready(self) -> bool:
        return self.fed == self.known

    @property
    def was_denoised(self) -> bool:
        return self.fed >= self.prompt
