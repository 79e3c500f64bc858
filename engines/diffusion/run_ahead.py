"""Several denoising passes back to back on the device, and one transfer to the host behind the last of them.

A pass that is read by the host leaves the device without work for the trip and for all that the host does before the
next one. Here the reading, the commit rules and the canvases are tensors, so the next pass needs nobody but the device.
The host learns afterwards what was committed, in which pass and at what probability, and lets the canvases take it.

That is for free text: under a contract a decision changes what may stand around it, which token automata and gates
find out on the host. A canvas is *frozen* where the host has to see it: its block is settled, its text ended, its
passes are spent, or it was given no numbers. What is frozen goes unchanged through the passes that are left, and the
run ends once half of the canvases are.

Legend: B canvases, N undecided sites of the widest at the beginning, R sites of all of them, W tokens of a padded pass,
K hidden states of it, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from carrara.engines.diffusion.canvas import View
from carrara.engines.diffusion.commit import CommitRule, at_least
from carrara.engines.diffusion.free_canvas import FreeCanvas
from carrara.engines.diffusion.job import Committed, Job
from carrara.engines.diffusion.judge import Rank, probability
from carrara.engines.diffusion.reader import MaskTable
from carrara.engines.diffusion.scaffold.lexicon import Row
from carrara.engines.diffusion.together import Head, judged
from carrara.engines.model.transfer import Transfer

Forward = Callable[[Tensor], Tensor]
"""The tokens of a padded pass [.., W] -> hidden states [.., K, D] of what is wanted: of canvas b and its site n at
[b, n]."""

_UNLIMITED = 1 << 30


def can_run_ahead(batch: Sequence[Job]) -> bool:
    """Whether passes over these canvases need no host in between: all may, under the same mask of tokens."""
    return all(job.can_run_ahead for job in batch) and len({id(_row(job)) for job in batch}) == 1


@dataclass(frozen=True, slots=True)
class Reader:
    """How hidden states are read: the head, in tiles, and the masks of what may stand somewhere."""

    head: Head
    table: MaskTable
    tile: int


@dataclass(frozen=True, slots=True)
class _Group:
    """Canvases under one commit rule, at the step at which the run began; `rows` None: all of them."""

    rule: CommitRule
    step: int
    rows: Tensor | None


class RunAhead:
    """The canvases of one group of a plan as tensors. On the model's thread.

    `fed` are the tokens that the first pass feeds of each canvas, of which the block begins at `begins`; `places` says
    which of all these tokens, one canvas after the other, stands at each place of the padded pass. `lag`: of how many
    passes nothing need be known when another one is launched: with 1, a GPU always has one to go on with.
    """

    @torch.inference_mode()
    def __init__(
        self,
        batch: Sequence[Job],
        fed: Sequence[Sequence[int]],
        begins: Sequence[int],
        places: Sequence[Sequence[int]],
        reader: Reader,
        device: torch.device,
        lag: int | None = None,
    ) -> None:
        self._batch, self._reader, self._device = batch, reader, device
        self._lag = int(device.type == "cuda") if lag is None else lag
        self._cells = self._whole([token for tokens in fed for token in tokens])
        self._places = self._whole(places)
        self._lay_out_sites(fed, begins)
        self._begin()
        row = _row(batch[0])
        self._forbidden = None if row is None else ~reader.table.masks([row])
        self._ends = self._whole(sorted(_free(batch[0]).eos_ids))
        self._groups = list(self._grouped())
        self._ranks = list(self._ranked())

    @torch.inference_mode()
    def run(self, forward: Forward, passes: int) -> list[Committed]:
        """Make at most so many passes; what each canvas committed in them."""
        enough = (len(self._batch) + 1) // 2
        frozen: deque[Transfer] = deque()
        for number in range(passes):
            self._take(*self._read(forward(self._cells[self._places])), number)
            frozen.append(Transfer((~self._active).sum()))
            if len(frozen) > self._lag and frozen.popleft().number() >= enough:
                break
        return self._committed()

    # Layout

    def _lay_out_sites(self, fed: Sequence[Sequence[int]], begins: Sequence[int]) -> None:
        """For each site its canvas, its number there, its place in [B, N], and its token among all."""
        offsets, start, targets = [_view(job).offsets for job in self._batch], 0, []
        for tokens, begin, found in zip(fed, begins, offsets, strict=True):
            targets += [start + begin + offset for offset in found]
            start += len(tokens)
        self._targets = self._whole(targets)
        self._owners = self._whole([b for b, found in enumerate(offsets) for _ in found])
        self._numbers = self._whole([n for found in offsets for n in range(len(found))])
        self._shape = (len(offsets), max(map(len, offsets)))
        self._sites = self._owners * self._shape[1] + self._numbers
        # Where logits are shifted, the first site of a block may be predicted from in front of all that is fed.
        firsts = [
            (b, job.last)
            for b, job in enumerate(self._batch)
            if job.needs_last and job.last is not None
        ]
        at = [sum(map(len, offsets[:b])) for b, _ in firsts]
        self._before = (self._whole(at), torch.stack([s for _, s in firsts])) if firsts else None

    def _begin(self) -> None:
        self._open = self._dense(torch.ones_like(self._sites, dtype=torch.bool))
        self._token = self._open.new_zeros(self._shape, dtype=torch.int64)
        self._when = torch.zeros_like(self._token)
        self._chance = torch.zeros_like(self._token, dtype=torch.float64)
        self._active = self._open.any(1)
        self._faulty = ~self._active
        self._made = torch.zeros_like(self._active, dtype=torch.int64)
        left = [job.passes_left for job in self._batch]
        self._left = self._whole([_UNLIMITED if one is None else one for one in left])
        self._is_limited = any(one is not None for one in left)

    def _grouped(self) -> Iterator[_Group]:
        found: dict[Hashable, list[int]] = {}
        for number, job in enumerate(self._batch):
            step = job.step if job.ruling.counts_steps else 0
            found.setdefault((job.rule, step), []).append(number)
        for rows in found.values():
            job = self._batch[rows[0]]
            yield _Group(
                job.ruling.commit, job.step, None if len(found) == 1 else self._whole(rows)
            )

    def _ranked(self) -> Iterator[tuple[Rank, Tensor]]:
        """How sites are ranked that are not ranked by probability, and which [R] they are."""
        ranks = [job.ruling.judge.rank for job in self._batch]
        for rank in dict.fromkeys(ranks):
            if rank is not probability:
                mine = [b for b, other in enumerate(ranks) if other is rank]
                yield rank, torch.isin(self._owners, self._whole(mine))

    # A pass

    def _read(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best allowed token of each site, how sure its judge is of it, and its probability, each [B, N]."""
        states = hidden[self._owners, self._numbers]
        if self._before is not None:
            states = states.index_copy(0, *self._before)
        size = self._reader.tile
        parts = [self._tile(states, start, start + size) for start in range(0, len(states), size)]
        best, sure, chance = (self._dense(torch.cat(part)) for part in zip(*parts, strict=True))
        return best, sure, chance

    def _tile(self, states: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        states = states[start:stop]
        logits = self._reader.head(states).float()
        best, sure, chance = judged(logits, self._forbidden)
        for rank, mine in self._ranks:
            other = rank(_view(self._batch[0]), logits, best).float()
            sure = torch.where(mine[start:stop], other, sure)
        return best, sure, chance.double()

    def _take(self, best: Tensor, sure: Tensor, chance: Tensor, number: int) -> None:
        """Commit what the rules pick, and freeze whom the host has to see."""
        faulty = ((sure.isnan() | chance.isnan()) & self._open).any(1) & self._active
        moving = self._active & ~faulty
        commit = self._picked(sure, number) & moving[:, None]
        self._token = torch.where(commit, best, self._token)
        self._chance = torch.where(commit, chance, self._chance)
        self._when = torch.where(commit, number + 1, self._when)
        found = torch.where(
            commit.flatten()[self._sites], best.flatten()[self._sites], self._cells[self._targets]
        )
        self._cells = self._cells.index_copy(0, self._targets, found)
        self._open = self._open & ~commit
        self._made = self._made + self._active
        self._faulty = self._faulty | faulty
        ended = (commit & (best[..., None] == self._ends).any(-1)).any(1)
        self._active = moving & self._open.any(1) & ~ended & (self._made < self._left)

    def _picked(self, sure: Tensor, number: int) -> Tensor:
        picked = torch.zeros_like(self._open)
        left = (self._left - self._made).clamp_min(1)
        needed = (self._open.sum(1) + left - 1) // left
        for group in self._groups:
            rows = slice(None) if group.rows is None else group.rows
            rule = at_least(group.rule, needed[rows]) if self._is_limited else group.rule
            found = rule(sure[rows], self._open[rows], group.step + number)
            picked = found if group.rows is None else picked.index_copy(0, group.rows, found)
        return picked

    # The host

    def _committed(self) -> list[Committed]:
        """All in one transfer: of each canvas its tokens, their probabilities and passes, and how the run went."""
        count = self._shape[1]
        ran = torch.stack((self._made, self._faulty), 1)
        packed = torch.cat((self._token, self._chance, self._when, ran), 1)  # as float64, exactly
        found = []
        for job, line in zip(self._batch, Transfer(packed).values(), strict=True):
            tokens, chances, passes = (line[i : i + count] for i in range(0, 3 * count, count))
            commits = [
                (int(when), offset, int(token), chance)
                for offset, token, chance, when in zip(
                    _view(job).offsets, tokens, chances, passes, strict=False
                )
                if when
            ]
            found.append(Committed(int(line[-2]), tuple(sorted(commits)), bool(line[-1])))
        return found

    def _dense(self, values: Tensor) -> Tensor:
        """Values of all sites [R] as [B, N], zero where a canvas has fewer sites."""
        rows, most = self._shape
        return values.new_zeros(rows * most).index_copy_(0, self._sites, values).view(self._shape)

    def _whole(self, values: Sequence[object]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)


def _view(job: Job) -> View:
    assert job.view is not None
    return job.view


def _row(job: Job) -> Row | None:
    """What may stand at every site of its text."""
    return _view(job).sites[0].row


def _free(job: Job) -> FreeCanvas:
    assert isinstance(job.canvas, FreeCanvas)
    return job.canvas
