"""Sizes and variants of one model, in our words. `families` reads them from a checkpoint's config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from carrara.engines.fields import Fields


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the trained context. `linear` uses `factor` alone."""

    kind: Literal["linear", "llama3"]
    factor: float
    low_factor: float = 1.0
    high_factor: float = 4.0
    trained_positions: int = 8192


@dataclass(frozen=True, slots=True)
class ExpertsConfig:
    """A mixture of experts in place of the feed-forward network, from layer `first_layer` on.

    A token goes through `chosen` of `count` experts, `hidden` wide each, taken from its best
    `chosen_groups` of `groups` equal groups, and through the shared experts (`shared_hidden` wide in all,
    0: none). Their weights are scores, `normalised` to sum 1, times `scale`. `biased`: a bias that counts
    for the choice only.
    """

    count: int
    chosen: int
    hidden: int
    shared_hidden: int = 0
    groups: int = 1
    chosen_groups: int = 1
    scale: float = 1.0
    normalised: bool = True
    biased: bool = False
    first_layer: int = 0


@dataclass(frozen=True, slots=True)
class UniformNoise:
    """How a canvas of random tokens is denoised. Defaults are those that DiffusionGemma was published with.

    Pass n of `steps`, counted down, has temperature t_min + (t_max - t_min) * n / steps. Positions are accepted while
    their entropies stay in `entropy_bound`. A canvas is finished once its best tokens were the same for `stable`
    passes more and their mean entropy is below `sure`.
    """

    steps: int = 48
    entropy_bound: float = 0.1
    t_min: float = 0.4
    t_max: float = 0.8
    stable: int = 1
    sure: float = 0.005


@dataclass(frozen=True, slots=True)
class Denoising:
    """How a checkpoint was trained to denoise. None where config.json leaves it open.

    `attention`: "full" (everything sees everything) or "block" (blocks of `block` positions see what is
    before them and themselves). `mask_id` stands at what is undecided. `shifted`: the logits at position
    i - 1 predict the token at i. `noise` None: masks; else what is undecided are random tokens, on canvases of
    `block` at most.
    """

    attention: Literal["full", "block"] | None = None
    block: int | None = None
    mask_id: int | None = None
    shifted: bool = False
    noise: UniformNoise | None = None


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """Sizes and variants of one model. `tied`: the output head is the embedding. `max_positions`: its
    context length.

    `attention_bias`: of query, key and value projections, and of the output projection unless
    `output_bias` says otherwise. `qk_norm`: queries and keys are normed head by head before they are
    turned. `rotary_dim`: how many dimensions of a head are turned, None: all. `experts` None: every layer
    has a plain feed-forward network. `denoising` None: an autoregressive model.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    max_positions: int
    rms_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    tied: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    model_type: str = "llama"
    output_bias: bool | None = None
    qk_norm: bool = False
    rotary_dim: int | None = None
    experts: ExpertsConfig | None = None
    denoising: Denoising | None = None

    @property
    def group(self) -> int:
        """How many query heads share a key/value head."""
        return self.heads // self.kv_heads

    @property
    def turned(self) -> int:
        """How many dimensions of a head rotary position turns."""
        return self.head_dim if self.rotary_dim is None else self.rotary_dim

    def has_experts(self, layer: int) -> bool:
        return self.experts is not None and layer >= self.experts.first_layer

    @classmethod
    def from_dict(cls, found: Mapping[str, Any], where: str = "config.json") -> LlamaConfig:
        """Read the fields of a published `config.json`. `where` names the file in errors.

        Raises:
            LoadingError: another architecture, a variant this model does not compute, or a field that is missing or is
            not what it must be; names file and field.
        """
        from carrara.engines.model.families import family_of

        return family_of(found, where).read(Fields(found, where))
