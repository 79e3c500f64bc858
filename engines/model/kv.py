"""The key/value cache: one preallocated tensor whose rows are requests and whose slots are positions.

Legend: L layers, R rows, H key/value heads, C slots (capacity), E head size, B batch, T new positions.

Conventions, shared by every decoder:
- **A slot is a position.** The keys and values of the token at position p of a row lie in slot p of that
  row. There is no other bookkeeping here: how many slots of a row hold something, its *length*, is known
  by whoever owns the row.
- **A slot beyond a row's length is garbage.** It may be written freely (padding, a canvas that is not
  kept) and is overwritten later; masks keep it out of sight until then. So a pass is kept by advancing
  the length, and thrown away by not advancing it. Nothing is copied or cleared.
- **The cache grows in steps** when `reserve` asks for more; views taken before are stale after that.
- Rows 0..n-1 are the cheap ones to use together (a view). `exchange` lets an owner keep its live rows
  there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from carrara.engines.model.config import LlamaConfig

GROW_SLOTS = 256


class KVCache:
    """`data` is [L, 2, R, H, C, E]: keys at index 0, values at index 1. It starts with no slots."""

    def __init__(
        self,
        config: LlamaConfig,
        rows: int,
        slots: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self._shape = (config.layers, 2, config.kv_heads, config.head_dim)
        self.max_slots = config.max_positions
        self.data = self._zeros(rows, slots, dtype, torch.device(device))

    @property
    def rows(self) -> int:
        return self.data.shape[2]

    @property
    def slots(self) -> int:
        return self.data.shape[4]

    def reserve(self, rows: int, slots: int) -> None:
        """Make room for at least `rows` rows of `slots` slots, keeping what is there.

        Rows grow to the next power of two and slots to the next multiple of GROW_SLOTS, so that a
        growing batch copies the cache a few times only.
        """
        if rows <= self.rows and slots <= self.slots:
            return
        old = self.data
        rows = self.rows if rows <= self.rows else 1 << (rows - 1).bit_length()
        slots = self.slots if slots <= self.slots else -(-slots // GROW_SLOTS) * GROW_SLOTS
        self.data = self._zeros(rows, slots, old.dtype, old.device)
        self.data[:, :, : old.shape[2], :, : old.shape[4]] = old

    def resize(self, rows: int, slots: int) -> None:
        """Have just `rows` rows of `slots` slots, keeping what fits in. The old and the new tensor exist meanwhile."""
        if (rows, slots) == (self.rows, self.slots):
            return
        old = self.data
        data = self._zeros(rows, slots, old.dtype, old.device)
        rows, slots = min(rows, self.rows), min(slots, self.slots)
        data[:, :, :rows, :, :slots] = old[:, :, :rows, :, :slots]
        self.data = data

    def blank(self, row: int) -> None:
        """Zero a row that holds numbers that are none: masked slots count, too, where they are NaN."""
        self.data[:, :, row] = 0

    def places(self, rows: Tensor, positions: Tensor) -> Tensor:
        """Where the keys and values of new positions go, for `write`: the same in every layer.

        Shapes: rows [B, 1] and positions [B, T] int64 -> [B*T*2*H].
        """
        _, _, heads, _ = self._shape
        device = positions.device
        kinds = torch.arange(2, device=device)[:, None] * self.rows
        lines = (kinds + rows[..., None, None]) * heads + torch.arange(heads, device=device)
        return (lines * self.slots + positions[..., None, None]).flatten()

    def write(self, layer: int, places: Tensor, kv: Tensor) -> None:
        """Put new keys and values kv [B, T, 2, H, E] into the slots that `places` found."""
        size = kv.shape[-1]
        self.data[layer].view(-1, size).index_copy_(0, places, kv.reshape(-1, size))

    def read(self, layer: int, rows: slice | Tensor, slots: int) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, slots, E] of `rows`: a view for a slice, a copy for an index tensor."""
        data = self.data[layer]
        return data[0, rows, :, :slots], data[1, rows, :, :slots]

    def exchange(self, a: int, b: int, length_a: int, length_b: int) -> None:
        """Swap rows `a` and `b`, of which the first `length_…` slots count. Length 0 copies nothing."""
        if a == b:
            return
        kept = self.take(b, 0, length_b)
        self.data[:, :, b, :, :length_a] = self.data[:, :, a, :, :length_a]
        self.put(a, 0, kept)

    def take(self, row: int, start: int, stop: int) -> Tensor:
        """An own copy [L, 2, H, stop - start, E] of some slots, for a prefix cache."""
        return self.data[:, :, row, :, start:stop].clone()

    def put(self, row: int, start: int, kv: Tensor) -> None:
        """Write what `take` returned into the slots from `start` on."""
        self.data[:, :, row, :, start : start + kv.shape[3]] = kv

    def _zeros(self, rows: int, slots: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        # Zeros, not `empty`: a masked garbage slot holding NaN would still poison the attention sum.
        layers, two, heads, size = self._shape
        return torch.zeros(layers, two, rows, heads, slots, size, dtype=dtype, device=device)


class CacheView:
    """The cache as one pass sees it: its rows, where the new keys go, how many slots are looked at."""

    def __init__(
        self,
        cache: KVCache,
        rows: slice | Tensor | None,
        positions: Tensor,
        slots: int,
        keep: bool,
    ) -> None:
        self.cache, self.keep, self.slots = cache, keep, slots
        if slots - (0 if keep else positions.shape[1]) > cache.slots:
            raise ValueError(
                f"a mask over {slots} slots for a cache of {cache.slots}: reserve first"
            )
        self.rows: slice | Tensor = slice(0, positions.shape[0]) if rows is None else rows
        if isinstance(self.rows, slice):
            numbers = torch.arange(*self.rows.indices(cache.rows), device=positions.device)
        else:
            numbers = self.rows
        self.places = cache.places(numbers[:, None], positions)

    def extend(self, layer: int, kv: Tensor) -> tuple[Tensor, Tensor]:
        """Bring in new keys and values [B, T, 2, H, E]; return all that the pass looks at, [B, H, S, E]."""
        if self.keep:
            self.cache.write(layer, self.places, kv)
            return self.cache.read(layer, self.rows, self.slots)
        old_k, old_v = self.cache.read(layer, self.rows, self.slots - kv.shape[1])
        new_k, new_v = kv.permute(2, 0, 3, 1, 4)
        return torch.cat((old_k, new_k), dim=2), torch.cat((old_v, new_v), dim=2)


def cache_rows(rows: Sequence[int], device: torch.device) -> slice | Tensor:
    """What stands for these rows in a pass: a slice where they follow one another, as it copies no keys."""
    if list(rows) == list(range(rows[0], rows[0] + len(rows))):
        return slice(rows[0], rows[0] + len(rows))
    return torch.tensor(rows, device=device)


def slot_bytes(config: LlamaConfig, dtype: torch.dtype) -> int:
    """Bytes that one slot of one row takes over all layers."""
    return config.layers * 2 * config.kv_heads * config.head_dim * dtype.itemsize
