"""The parameters of recorded algorithms: what each may be, whatever the algorithm, and which an algorithm has."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass

from carrara.engines.fields import COUNT, NOT_NEGATIVE, PART, POSITIVE, SHARE, SIZE


@dataclass(frozen=True, slots=True)
class _OneOf:
    options: tuple[str | bool, ...]

    def __contains__(self, value: object) -> bool:
        return any(type(value) is type(option) and value == option for option in self.options)

    def __str__(self) -> str:
        return f"one of {', '.join(map(repr, self.options))}"


class _Ids:
    def __contains__(self, value: object) -> bool:
        return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)

    def __str__(self) -> str:
        return "a list of ids"


_SWITCH = _OneOf((False, True))
_IDS = _Ids()

KINDS: Mapping[str, Container[object]] = {
    **dict.fromkeys(
        (
            "steps",
            "steps_per_block",
            "denoising_steps",
            "max_denoising_steps",
            "gen_length",
            "max_new_tokens",
            "block_length",
            "block_size",
            "minimal_topk",
            "num_to_transfer",
        ),
        SIZE,
    ),
    **dict.fromkeys(("max_post_steps", "stability_threshold", "top_k"), COUNT),
    **dict.fromkeys(
        ("temperature", "alg_temp", "cfg_scale", "factor", "entropy_bound"), NOT_NEGATIVE
    ),
    **dict.fromkeys(("t_min", "t_max"), POSITIVE),
    **dict.fromkeys(("threshold", "top_p", "eps"), PART),
    **dict.fromkeys(("confidence_threshold", "editing_threshold"), SHARE),
    **dict.fromkeys(
        ("do_sample", "greedy", "dual_cache", "eos_early_stop", "right_shift_logits"), _SWITCH
    ),
    **dict.fromkeys(
        ("suppress_tokens", "begin_suppress_tokens", "cfg_keep_tokens", "stopping_criteria_idx"),
        _IDS,
    ),
    "remasking": _OneOf(("low_confidence", "random")),
    "remasking_strategy": _OneOf(("low_confidence_static", "low_confidence_dynamic", "sequential")),
    "alg": _OneOf(("maskgit_plus", "entropy", "topk_margin", "origin", "confidence_threshold")),
    "use_cache": _OneOf(("none", "prefix", "dual")),
}
"""By name: what holds all values that the parameter may have, and says as `str` what they are. That it may be null is
said by the algorithm."""


@dataclass(frozen=True, slots=True)
class Params:
    """The parameters that an algorithm is held to, by name, and those of them that may be null."""

    names: frozenset[str]
    nullable: frozenset[str]

    @classmethod
    def of(cls, words: str) -> Params:
        """From names with spaces between them; one that may be null ends with "?"."""
        found = words.split()
        nullable = frozenset(word[:-1] for word in found if word.endswith("?"))
        return cls(frozenset(word.removesuffix("?") for word in found), nullable)
