"""The Llama family as one module for every decoder: causal, block-causal and full attention on the same
weights.

Legend: B batch, T new positions, S slots looked at, D hidden, V vocabulary, N query heads, H key/value
heads, E head size.

How a pass is described (this is the convention that all decoders share; `kv` has the cache's side of
it):
- `tokens` [B, T] and `positions` [B, T], both int64. A position is the rotary position and, with a
  cache, the slot in which the new keys and values are written. Rows may stand at different positions
  (ragged batches): pad the shorter rows on the right with any token, at positions that go on counting,
  and ignore their output. What padding writes lies beyond the row's length, where nobody looks.
- `mask` [B, 1, T, S] bool says all there is to say about attention; build it with `attention`. S is read
  from it.
  - **keep=True** (default): keys are slots 0..S-1 of each row *after* the new ones were written, so S
    must reach past the last new position. "Kept" means written: whether the positions count is up to the
    owner of the row, who advances its length or does not. A canvas is refined like this: every pass
    writes the block at the same positions and sees prompt and block in both directions (`block_causal`
    or `full`), the length stays; when the block is final, one last pass over its clean tokens leaves the
    keys and values that later blocks attend to, and the length advances.
  - **keep=False**: the cache is only read. Keys are its first S - T slots and then the T new positions
    (`attention.beside_cache`). It copies the cached keys of every layer once, so prefer keep=True where
    the slots beyond the length are free; it is for passes that must leave them alone.
  - None: plain causal, for rows whose positions follow one another; by order without a cache. On a CPU,
    prefer it to a causal mask: it skips the future and is *steady* (below).
- `rows` says which cache rows the batch stands for: None for rows 0..B-1, a slice of B rows (both cost
  nothing), or an int64 tensor [B] (copies the keys it reads).
- `slots` [B, T] int64, where given, are the cache slots in which the new keys and values are written; they
  differ from the positions only in rows with padding in front, where slots count it and positions do not.
- `allowed` [B, T or K, V] bool, where given: the logits of all other tokens come back as -inf.
- `pick` [B, K] int64 are the indexes into T whose logits are wanted, None for all of them; K may be 0.
  The head is the costliest layer (V is large): ask only for what is used.
- `quick` computes with the int8 copies of the weights, where `quicken` made them (a CPU): meant for
  passes over a few answer tokens; "head" for the head alone; "canvas" with the small copies (`small`),
  meant for passes over many tokens, where `shrink` allowed them. A decoder uses it for a kind of token
  (prompt, answer), never depending on the size of the batch.
- `switch` [B] weighs the attached adapter for each row (1 with it, 0 without), None for no row. Without
  an attached adapter, or after merging it, it changes nothing.
- `head` False leaves the head out: the result is its input, for `logits`, which may take it in parts.

The result is [B, T or K, V] in the model's dtype ([B, T or K, D] without the head).

Steady passes: a matrix product may round otherwise when its shapes change, so the same token can get
other bits when others share the pass, and then, rarely, another successor. With `mask` None and a cache
on a CPU the attention is cut so that shapes do not depend on who is there, and so do not the int8
products; float32 products do not either from 12 rows on (pad B*T to 16). Measured on AVX2 and on AMD's AVX-512
with 1 and 2 threads: equal to the last bit. On an Intel Xeon with AMX it holds for float32 with 1 thread; bfloat16
products above and below 32 rows, and float32 ones with 2 threads, may differ in the last bits there.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carrara.engines.model.attention import causal
from carrara.engines.model.config import LlamaConfig
from carrara.engines.model.kv import CacheView, KVCache
from carrara.engines.model.layer import Layer, norm, parameter
from carrara.engines.model.linear import JoinedLinear, Quick, QuickWeight
from carrara.engines.model.pattern import Pattern, steady, step_by_step, whole
from carrara.engines.model.peaks import find_peaks
from carrara.engines.model.rope import Turns
from carrara.engines.model.small import Small, SmallWeight, small_weight

GROUP, GROUPS = 16, 16
"""Of a quick pass, the logits in the best GROUPS groups of GROUP tokens are computed exactly."""


class Llama(nn.Module):
    """One decoder stack. The constructor leaves weights unset: use `load.load_model` or `Llama.random`."""

    def __init__(self, config: LlamaConfig, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = config
        self.embedding = parameter(config.vocab_size, config.hidden_size, dtype=dtype)
        self.layers = nn.ModuleList(Layer(config, i, dtype) for i in range(config.layers))
        self.norm = parameter(config.hidden_size, dtype=dtype)
        self.head = (
            self.embedding
            if config.tied
            else parameter(config.vocab_size, config.hidden_size, dtype=dtype)
        )
        self.quick_head: QuickWeight | None = None
        self.small: Small | None = None
        self._small_head: SmallWeight | None = None
        self._head_peaks: Tensor | None = None
        self._turns = Turns(config)

    @classmethod
    def random(
        cls,
        config: LlamaConfig,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        spread: float = 0.02,
    ) -> Self:
        """A model with normal weights of standard deviation `spread` and unit norms, for tests."""
        model = cls(config, dtype)
        generator = torch.Generator().manual_seed(seed)
        for weight in model.parameters():
            if weight.dim() == 1:
                weight.fill_(1.0)
            else:
                weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
        return model.eval()

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.dtype

    @property
    def computed(self) -> torch.dtype:
        """What lies between the products of "canvas" passes. What comes of integers is float32, and rounding it between
        them would take time and accuracy."""
        return torch.float32 if self.small == "int8" else self.dtype

    @property
    def is_quick(self) -> bool:
        """Whether `quicken` was called: `quick` passes differ from others."""
        return any(isinstance(m, JoinedLinear) and m.quick is not None for m in self.modules())

    @property
    def device(self) -> torch.device:
        return self.embedding.device

    @torch.inference_mode()
    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        mask: Tensor | Pattern | None = None,
        cache: KVCache | None = None,
        keep: bool = True,
        rows: slice | Tensor | None = None,
        pick: Tensor | None = None,
        switch: Tensor | None = None,
        quick: bool | Literal["head", "canvas"] = False,
        allowed: Tensor | None = None,
        slots: Tensor | None = None,
        head: bool = True,
    ) -> Tensor:
        """Logits of one pass; see the module's docstring. Mutates `cache` when `keep` is true."""
        batch = tokens.shape[0]
        x = F.embedding(tokens, self.embedding)
        pattern = self._pattern(positions, mask, cache, quick is True)
        places = positions if slots is None else slots
        view = None if cache is None else CacheView(cache, rows, places, pattern.slots, keep)
        # A position is never above its slot, and asking the device for the highest would wait for it. Without
        # `keep` the new ones come behind the slots that are there.
        behind = 0 if keep else positions.shape[1]
        highest = int(positions.max()) if cache is None else cache.slots - 1 + behind
        cos, sin = self._angles(positions, highest)
        weights = None if switch is None else switch.to(self.dtype).view(batch, 1, 1)
        products: Quick = "canvas" if quick == "canvas" else quick is True
        if products == "canvas":
            x = x.to(self.computed)
        for layer in self.layers:
            x = layer(x, cos, sin, pattern, view, weights, products)
        if pick is not None:
            if not pick.shape[1]:
                return x.new_empty(batch, 0, self.config.vocab_size if head else x.shape[-1])
            x = x.gather(1, pick[..., None].expand(-1, -1, x.shape[-1]))
        x = norm(x, self.norm, self.config.rms_eps)
        return self.logits(x, quick, allowed) if head else x

    @torch.inference_mode()
    def logits(
        self,
        x: Tensor,
        quick: bool | Literal["head", "canvas"] = False,
        allowed: Tensor | None = None,
    ) -> Tensor:
        """The head alone, over what a pass with `head` False returned: [B, K, D] -> [B, K, V]."""
        if quick == "canvas" and self.small is not None:
            if self._small_head is None:
                self._small_head = small_weight(self.small, self.head, self._head_peaks)
            logits = self._small_head(x)
        elif quick and quick != "canvas" and self.quick_head is not None:
            return self._quick_logits(x, self.quick_head, allowed)
        else:
            logits = F.linear(x, self.head)
        return logits if allowed is None else logits.masked_fill_(~allowed, -torch.inf)

    def _pattern(
        self,
        positions: Tensor,
        mask: Tensor | Pattern | None,
        cache: KVCache | None,
        quick: bool,
    ) -> Pattern:
        group = self.config.group
        if isinstance(mask, Pattern):
            return mask
        if mask is None and cache is None:
            return Pattern((), positions.shape[1])
        if mask is None and cache is not None and self.device.type == "cpu":
            how = step_by_step if quick else steady
            return how(positions, cache.slots, group, self.dtype)
        if mask is None:
            mask = causal(positions, int(positions.max()) + 1)
        return whole(mask, group, self.dtype)

    def _angles(self, positions: Tensor, highest: int) -> tuple[Tensor, Tensor]:
        # Values are turned by no angle together with queries and keys: one call, and K beside V in
        # memory.
        cos, sin = self._turns.at(positions, self.dtype, highest)
        heads, still = self.config.heads + self.config.kv_heads, self.config.kv_heads
        cos = torch.cat(
            (cos.expand(-1, -1, heads, -1), torch.ones_like(cos).expand(-1, -1, still, -1)), 2
        )
        sin = torch.cat(
            (sin.expand(-1, -1, heads, -1), torch.zeros_like(sin).expand(-1, -1, still, -1)), 2
        )
        return cos, sin

    def shrink(self, kind: Small, sample: Tensor | None = None) -> None:
        """Let "canvas" passes use small copies of the weights, which the first of them makes. A pass over `sample`
        [1, T], tokens of text as the model reads it, finds how large the inputs of each layer get."""
        self.small = kind
        if sample is not None:
            self._head_peaks = find_peaks(self, sample)
        for module in self.modules():
            if isinstance(module, JoinedLinear) and module.weight.numel():
                module.small_kind = kind

    def quicken(self) -> None:
        """Make the int8 copies that `quick` passes use: a quarter of the float32 weights more memory."""
        for module in self.modules():
            if isinstance(module, JoinedLinear) and module.weight.numel():
                module.quick = QuickWeight(module.weight)
        if self.config.vocab_size % GROUP == 0:
            self.quick_head = QuickWeight(self.head)

    def _quick_logits(self, x: Tensor, head: QuickWeight, allowed: Tensor | None) -> Tensor:
        # These logits are rounded to bfloat16, too coarse to rank close candidates. So the groups of
        # tokens that hold the best are computed again exactly. (Finding the best groups takes 4 % of the
        # time of topk.)
        logits = head(x)
        if allowed is not None:
            logits.masked_fill_(~allowed, -torch.inf)
        peaks = logits.view(*logits.shape[:-1], -1, GROUP).amax(-1)
        groups = peaks.topk(min(GROUPS, peaks.shape[-1]), dim=-1).indices
        best = (groups[..., None] * GROUP + torch.arange(GROUP, device=x.device)).flatten(-2)
        exact = (self.head[best] * x[..., None, :]).sum(
            -1
        )  # unlike a product, the same for any batch
        exact = exact.masked_fill_(logits.gather(-1, best).isneginf(), -torch.inf)
        return logits.scatter_(-1, best, exact)
