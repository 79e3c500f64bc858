"""From rows of data to the batches of each step: shuffled, drawn anew, packed; the same for the same seed.

Rows are worked off in pools. A pool is drawn and packed by itself, knowing only its number, so pools can be made
ahead in other processes, and a training goes on at any pool after it was cut off.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from carrara.engines.adapt.examples import Examples
from carrara.engines.adapt.pack import PackedRow, pack
from carrara.engines.adapt.recipe import Recipe
from carrara.engines.adapt.rows import Row, read_rows
from carrara.engines.errors import CarraraError
from carrara.engines.tokenizer import Tokenizer

POOL_ROWS = 512
"""Examples drawn together. Larger pools find more common beginnings, smaller ones mix better."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a training stands in its data: rows of pool `pool` before `row` are used."""

    pool: int = 0
    row: int = 0


@dataclass(frozen=True, slots=True)
class Pool:
    """The packed rows of one pool. Rows of the data (their numbers) that are `left_out` were too long, for those that
    are `unfit` there is no canvas; `problem` says why for the first of these."""

    rows: list[PackedRow]
    examples: int
    left_out: frozenset[int]
    unfit: frozenset[int]
    problem: str | None = None


@dataclass(slots=True)
class PoolMaker:
    """Makes the pools of one data set. `step_examples`: about how many examples a step takes, to tell a pool's step."""

    rows: Sequence[Row]
    examples: Examples
    recipe: Recipe
    step_examples: float = 16.0

    def pool(self, number: int) -> Pool:
        """Pool `number`; running through the rows again and again, in another order each time."""
        recipe, size = self.recipe, min(POOL_ROWS, len(self.rows))
        step = min(recipe.steps - 1, int(number * size / self.step_examples))
        drawn, problem = [], None
        left_out: set[int] = set()
        unfit: set[int] = set()
        for index in self._indexes(number * size, size):
            chance = random.Random(f"{recipe.seed} {number} {index}")
            try:
                example = self.examples.draw(self.rows[index], step, chance)
            except CarraraError as error:
                unfit.add(index)
                problem = problem or str(error)
                continue
            if example.positions > recipe.most_tokens:
                left_out.add(index)
            elif example.canvases or example.taught:
                drawn.append(example)
        packed = pack(drawn, recipe.row_tokens, recipe.shift, recipe.row_examples)
        random.Random(f"{recipe.seed} {number} rows").shuffle(packed)
        return Pool(packed, len(drawn), frozenset(left_out), frozenset(unfit), problem)

    def _indexes(self, start: int, count: int) -> Iterator[int]:
        orders: dict[int, list[int]] = {}
        for at in range(start, start + count):
            epoch, place = divmod(at, len(self.rows))
            if epoch not in orders:
                order = list(range(len(self.rows)))
                random.Random(f"{self.recipe.seed} epoch {epoch}").shuffle(order)
                orders[epoch] = order
            yield orders[epoch][place]


@dataclass(slots=True)
class Feed:
    """The rows of each step. `workers` processes make pools ahead; 0: they are made when they are needed.

    `left_out` and `unfit` gather the numbers of the rows that were too long, or without a canvas, so far.
    """

    maker: PoolMaker
    data: Path
    model_folder: Path
    ids: tuple[int | None, int | None]
    workers: int = 0
    place: Place = Place()
    left_out: set[int] = field(default_factory=set)
    unfit: set[int] = field(default_factory=set)
    problem: str | None = None
    _futures: dict[int, Future[Pool]] = field(default_factory=dict)

    def steps(self) -> Iterator[list[PackedRow]]:
        """Rows for one step after another, without end; `place` is where the next one begins.

        Raises:
            CarraraError: a whole pool held nothing to train on.
        """
        with ExitStack() as stack:
            executor = self._executor(stack)
            gathered: list[PackedRow] = []
            size, pool_number, at = 0, self.place.pool, self.place.row
            while True:
                pool = self._pool(pool_number, executor)
                if not pool.rows:
                    raise CarraraError(
                        f"{self.data}: none of {min(POOL_ROWS, len(self.maker.rows))} rows can be trained on "
                        f"({len(pool.left_out)} too long, {len(pool.unfit)} unfit). {pool.problem or ''}".rstrip()
                    )
                self.left_out |= pool.left_out
                self.unfit |= pool.unfit
                self.problem = self.problem or pool.problem
                while at < len(pool.rows):
                    row = pool.rows[at]
                    at += 1
                    gathered.append(row)
                    size += len(row)
                    if size >= self.maker.recipe.step_tokens:
                        self.place = Place(pool_number, at)
                        yield gathered
                        gathered, size = [], 0
                pool_number, at = pool_number + 1, 0

    def _executor(self, stack: ExitStack) -> Executor | None:
        if not self.workers:
            return None
        executor = ProcessPoolExecutor(
            self.workers,
            mp_context=get_context("spawn"),
            initializer=_prepare,
            initargs=(
                self.data,
                self.model_folder,
                self.ids,
                self.maker.recipe,
                self.maker.step_examples,
            ),
        )
        stack.callback(executor.shutdown, wait=False, cancel_futures=True)
        return executor

    def _pool(self, number: int, executor: Executor | None) -> Pool:
        if executor is None:
            return self.maker.pool(number)
        for ahead in range(number, number + 2 * self.workers):
            if ahead not in self._futures:
                self._futures[ahead] = executor.submit(_made, ahead)
        return self._futures.pop(number).result()


_maker: PoolMaker | None = None  # of a worker process


def _prepare(
    data: Path,
    folder: Path,
    ids: tuple[int | None, int | None],
    recipe: Recipe,
    step_examples: float,
) -> None:
    global _maker
    tokenizer = Tokenizer.from_folder(folder, mask_id=ids[0], slot_pad_id=ids[1])
    _maker = PoolMaker(list(read_rows(data)), Examples(tokenizer, recipe), recipe, step_examples)


def _made(number: int) -> Pool:
    assert _maker is not None
    return _maker.pool(number)
