"""Passes of few shapes over kept buffers, so that a GPU can record them once and replay them.

A small model's pass on a GPU is hundreds of kernels of a few microseconds each: launching them takes longer than
computing them. Recorded as a graph they are launched at once, if shapes and addresses stay as they were. So a
pass is padded to the next *bucket* of rows, width and slots, and its inputs are copied into buffers that the
recording knows.

Padding changes nothing: it repeats the row's last token at its position, and the first row as a whole, which writes
the same keys and values once more to the same slots. A bucket is recorded at its second use and its first
replay is compared with the plain pass; where recording fails or the numbers differ it is computed plainly from
then on. Graphs need a GPU; recording itself is a function, so everything else is tested without one.

Legend: B rows, T positions, S slots, K positions wanted, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from carrara.engines.model.attention import full
from carrara.engines.model.kv import KVCache
from carrara.engines.model.llama import Llama

_WIDTHS = (1, 8, 16, 32, 48, 64, 96, 128, 192, 256)
_SLOT_STEP = 256
_MOST_KEPT = 48

RECORDED_AT = 2
"""A bucket is recorded when it is used for the second time."""

Record = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]
"""Records a function without arguments: how to replay it, and the tensor in which its result then lies."""


class Run(Protocol):
    """A pass whose inputs are on the device: hidden states [B, K, D], of its own tokens or of others [B, T]."""

    def __call__(self, tokens: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Bucket:
    """The shape that a pass is padded to. `first`: its rows lie side by side in the cache from there on, which
    saves copying their keys; None: anywhere."""

    rows: int
    width: int
    slots: int
    wanted: int
    first: int | None = None
    switched: bool = False

    @classmethod
    def around(
        cls, rows: Sequence[int], width: int, slots: int, wanted: int, switched: bool
    ) -> Bucket:
        """Rows and wanted positions to a power of two, width to one of a few, slots to whole steps."""
        wide = next((w for w in _WIDTHS if w >= width), -(-width // 128) * 128)
        count = _power(len(rows))
        beside = list(rows) == list(range(rows[0], rows[0] + count))
        return cls(
            count,
            wide,
            -(-slots // _SLOT_STEP) * _SLOT_STEP,
            _power(max(wanted, min(8, wide))),
            rows[0] if beside else None,
            switched,
        )


@dataclass(frozen=True, slots=True)
class Canvases:
    """What a denoising pass computes: for each row of `rows` (of the cache) its `tokens` at its `positions`, all
    seeing the row's slots before its `end`; `wanted` are the places among the tokens whose hidden states are asked
    for."""

    rows: Sequence[int]
    tokens: Sequence[Sequence[int]]
    positions: Sequence[Sequence[int]]
    ends: Sequence[int]
    wanted: Sequence[Sequence[int]]
    switch: Sequence[float] | None = None

    @property
    def width(self) -> int:
        return max(map(len, self.tokens))

    @property
    def bucket(self) -> Bucket:
        most = max(map(len, self.wanted))
        return Bucket.around(self.rows, self.width, max(self.ends), most, self.switch is not None)


@dataclass(slots=True, eq=False)
class Buffers:
    """The inputs of one bucket, always at the same addresses."""

    tokens: Tensor
    positions: Tensor
    ends: Tensor
    rows: Tensor
    pick: Tensor
    switch: Tensor | None

    @classmethod
    def of(cls, bucket: Bucket, device: torch.device) -> Buffers:
        b, t = bucket.rows, bucket.width

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.int64, device=device)

        return cls(
            zeros(b, t),
            zeros(b, t),
            zeros(b),
            zeros(b),
            zeros(b, bucket.wanted),
            torch.zeros(b, device=device) if bucket.switched else None,
        )

    def fill(self, canvases: Canvases, bucket: Bucket) -> None:
        """Copy a pass into the buffers, in one transfer."""
        wanted = [[*row, *[0] * (bucket.wanted - len(row))] for row in canvases.wanted]
        ends, rows = ([[value] for value in part] for part in (canvases.ends, canvases.rows))
        parts = (canvases.tokens, canvases.positions, wanted, ends, rows)
        widths = (bucket.width, bucket.width, bucket.wanted, 1, 1)
        flat = torch.tensor(
            [
                value
                for part, width in zip(parts, widths, strict=True)
                for row in padded(part, width, bucket.rows)
                for value in row
            ]
        ).to(self.tokens.device, non_blocking=True)
        inputs = (self.tokens, self.positions, self.pick, self.ends, self.rows)
        for target, found in zip(inputs, _cut(flat, [t.numel() for t in inputs]), strict=True):
            target.copy_(found.view_as(target))
        if self.switch is not None:
            given = canvases.switch or [0.0] * len(canvases.rows)
            spare = bucket.rows - len(given)
            self.switch.copy_(torch.tensor([*given, *[given[0]] * spare]))


def padded(rows: Sequence[Sequence[int]], width: int, count: int) -> list[list[int]]:
    """Rows of `width`, each filled up with its last value, and `count` of them, filled up with the first: tokens and
    positions that are computed twice change nothing."""
    found = [[*row, *[row[-1]] * (width - len(row))] for row in rows]
    return [*found, *[found[0]] * (count - len(found))]


def _cut(flat: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    found, start = [], 0
    for size in sizes:
        found.append(flat[start : start + size])
        start += size
    return found


def _power(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()


@dataclass(slots=True, eq=False)
class _Kept:
    buffers: Buffers
    uses: int = 0
    replay: Callable[[], None] | None = None
    result: Tensor | None = None
    refused: str = ""


@dataclass(slots=True, eq=False)
class BucketPasses:
    """The denoising passes of one model on one cache. `record` None: padded, but never recorded.

    A cache that grew has other addresses: what was recorded on the old one is dropped.
    """

    model: Llama
    record: Record | None = None
    tolerance: float = 0.02
    _known: dict[Bucket, _Kept] = field(default_factory=dict)
    _address: int = 0

    @property
    def recorded(self) -> int:
        return sum(kept.replay is not None for kept in self._known.values())

    @property
    def refused(self) -> dict[Bucket, str]:
        """Buckets that are computed plainly because recording failed, with the reason."""
        return {bucket: kept.refused for bucket, kept in self._known.items() if kept.refused}

    def room(self, canvases: Canvases) -> int:
        """Slots that the cache must have for this pass: those of its bucket."""
        return canvases.bucket.slots

    def run(self, canvases: Canvases, cache: KVCache) -> Tensor:
        """Hidden states [B, K, D], K of the bucket; those beyond the rows and places given mean nothing.

        Valid until the next call. Reserve `room` before.
        """
        return self.opened(canvases, cache)()

    @torch.inference_mode()
    def opened(self, canvases: Canvases, cache: KVCache) -> Run:
        """The pass over these canvases, to be run again and again: over the tokens given, or over others [B, T] of the
        bucket's shape that are on the device already."""
        bucket = canvases.bucket
        kept = self._kept(bucket, cache)
        kept.buffers.fill(canvases, bucket)

        @torch.inference_mode()
        def run(tokens: Tensor | None = None) -> Tensor:
            if tokens is not None:
                kept.buffers.tokens.copy_(tokens)
            return self._run(kept, bucket, cache)

        return run

    def _run(self, kept: _Kept, bucket: Bucket, cache: KVCache) -> Tensor:
        kept.uses += 1
        if kept.replay is not None and kept.result is not None:
            kept.replay()
            return kept.result
        plain = self._plain(kept.buffers, bucket, cache)
        if self.record is not None and kept.uses == RECORDED_AT:
            self._try_recording(self.record, kept, plain, bucket, cache)
        return plain

    def _kept(self, bucket: Bucket, cache: KVCache) -> _Kept:
        if cache.data.data_ptr() != self._address:
            self._known.clear()
            self._address = cache.data.data_ptr()
        if bucket not in self._known:
            if len(self._known) >= _MOST_KEPT:
                self._known.clear()
            self._known[bucket] = _Kept(Buffers.of(bucket, self.model.device))
        return self._known[bucket]

    def _plain(self, buffers: Buffers, bucket: Bucket, cache: KVCache) -> Tensor:
        first = bucket.first
        hidden: Tensor = self.model(
            buffers.tokens,
            buffers.positions,
            full(buffers.ends, bucket.width, bucket.slots),
            cache,
            rows=buffers.rows if first is None else slice(first, first + bucket.rows),
            pick=buffers.pick,
            switch=buffers.switch,
            quick="canvas",
            head=False,
        )
        return hidden

    def _try_recording(
        self, record: Record, kept: _Kept, plain: Tensor, bucket: Bucket, cache: KVCache
    ) -> None:
        """Record a bucket, and use that only if its first replay gives what the plain pass gave."""
        try:
            replay, result = record(lambda: self._plain(kept.buffers, bucket, cache))
            replay()
            worst = float((result.float() - plain.float()).abs().max())
        except (RuntimeError, ValueError) as error:
            kept.refused = str(error).partition("\n")[0]
            return
        if worst <= self.tolerance * float(plain.float().abs().max()):
            kept.replay, kept.result = replay, result
        else:
            kept.refused = f"its replay differs by {worst:.3g} from the plain pass"


class CudaRecorder:
    """Records with CUDA graphs. They share their memory, so a result lasts until the next replay."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            compute()  # what libraries set up at their first call must not be recorded
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = compute()
        return graph.replay, result


def recorder(device: torch.device) -> Record | None:
    """How passes are recorded on `device`, None where they cannot be."""
    return CudaRecorder() if device.type == "cuda" else None
