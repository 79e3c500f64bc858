"""How many bytes a batch takes, for its cache and for the passes over it: what the batcher decides by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from carrara.engines.model.config import LlamaConfig

ROUND_SLOTS = 256


@dataclass(frozen=True, slots=True)
class Costs:
    """Bytes, for one model.

    slot: the keys and values of one position of one row. place: what a pass holds for one token it computes;
    sight: for one token looking at one slot. logits: of one position whose logits are wanted; reading: what is made of
    them, one row after the other.
    """

    slot: int = 1
    place: int = 0
    sight: int = 0
    logits: int = 0
    reading: int = 0

    def cache(self, rows: int, slots: int) -> int:
        return rows * slots * self.slot

    def work(self, rows: int, width: int, slots: int, wanted: int) -> int:
        """A pass over `rows` rows of `width` tokens in a cache of `slots`, with `wanted` logits in each row."""
        seen = rows * width * (self.place + slots * self.sight)
        return seen + rows * wanted * self.logits + wanted * self.reading

    @classmethod
    def of(
        cls, config: LlamaConfig, dtype: torch.dtype, computed: torch.dtype | None = None
    ) -> Costs:
        """Those of the passes of `decode`: what lives at once in the widest layer, in the head and in the reader.
        `computed`: what lies between the layers, None: the same as the cache."""
        from carrara.engines.model.kv import slot_bytes

        size, place = dtype.itemsize, (computed or dtype).itemsize
        joined = (config.heads + 2 * config.kv_heads) * config.head_dim
        return cls(
            slot=slot_bytes(config, dtype),
            place=(4 * config.hidden_size + 3 * max(config.intermediate_size, joined)) * place,
            # The mask, its bias, and the scores where attention is not fused.
            sight=1 + (1 + config.heads) * size,
            logits=config.vocab_size * place,
            # As float32, masked, compared, as probabilities.
            reading=config.vocab_size * 16,
        )


def rounded(slots: int) -> int:
    """Caches grow in steps, so that a growing batch copies them a few times only."""
    return -(-slots // ROUND_SLOTS) * ROUND_SLOTS


def told(size: float) -> str:
    """Bytes for people: "1.5 GiB"."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"
