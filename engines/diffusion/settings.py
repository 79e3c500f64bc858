"""How a model denoises: what an adapter says about itself in `diffusion.json` beside its weights, or a
checkpoint of a diffusion family in its config.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from carrara.engines.errors import LoadingError

if TYPE_CHECKING:
    from carrara.engines.model.config import Denoising

FILE = "diffusion.json"


@dataclass(frozen=True, slots=True)
class Settings:
    """The defaults suit an adapter that says nothing else; `PLAIN` is for weights without one.

    logit_shift: the logits at position i-1 predict the token at i, as in an AR model.
    block_tokens, text_block_tokens: positions refined together, under a contract and in free text.
    threshold: the confidence from which a decision is final.
    slot_tokens: the length a string slot begins with; with `slots_grow` it gets longer when the model
    wants to write on, up to slot_most_tokens.
    most_steps: denoising steps of one answer where the request sets no limit; what is open then is
    completed at once. None: as many as the threshold takes.
    items_ahead: items of a list that are shown before it is known that they exist.
    mask_token_id, slot_pad_id: what the adapter was trained with, None: the tokenizer's own.
    attention: whom the prompt and settled blocks see. "causal": what is before them, as in an AR model.
    "block": blocks of attention_block_tokens, counted from the first token, see what is before them and
    themselves. "full": everything up to the end of the block being refined, so nothing is kept between
    passes. The block itself sees all of them and itself in any case.
    refresh_passes: every so many passes over a canvas compute all of it; the others only what is undecided or
    was decided since, seeing the rest as it was computed last. 1: always all, exact. After the dual cache of
    arXiv 2505.22618 and the delayed cache of arXiv 2505.15781.
    """

    logit_shift: bool = True
    block_tokens: int = 128
    text_block_tokens: int = 32
    threshold: float = 0.9
    slot_tokens: int = 24
    slots_grow: bool = False
    slot_most_tokens: int = 96
    most_steps: int | None = None
    items_ahead: int = 2
    mask_token_id: int | None = None
    slot_pad_id: int | None = None
    attention: Literal["causal", "block", "full"] = "causal"
    attention_block_tokens: int = 32
    refresh_passes: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("tokens") and (not isinstance(value, int) or value < 1):
                raise LoadingError(f"{FILE}: {field.name} is a number of at least 1, not {value!r}")
        if self.most_steps is not None and self.most_steps < 1:
            raise LoadingError(f"{FILE}: most_steps is at least 1, not {self.most_steps!r}")
        if self.refresh_passes < 1:
            raise LoadingError(f"{FILE}: refresh_passes is at least 1, not {self.refresh_passes!r}")
        if self.attention not in ("causal", "block", "full"):
            raise LoadingError(
                f"{FILE}: attention is causal, block or full, not {self.attention!r}"
            )
        if not 0 < self.threshold <= 1:
            raise LoadingError(
                f"{FILE}: threshold is above 0 and at most 1, not {self.threshold!r}"
            )

    @classmethod
    def of_adapter(cls, folder: Path) -> Settings:
        """Read `diffusion.json` of an adapter folder; without the file, the defaults.

        Raises:
            LoadingError: not JSON, an unknown key or a value out of range; names the file.
        """
        path = folder / FILE
        if not path.is_file():
            return cls()
        try:
            found: Any = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise LoadingError(f"{path}: cannot be read as JSON: {error}") from error
        known = {field.name for field in fields(cls)}
        if not isinstance(found, dict) or (unknown := found.keys() - known):
            wrong = sorted(unknown) if isinstance(found, dict) else found
            raise LoadingError(
                f"{path}: unknown keys {wrong}; known are {', '.join(sorted(known))}"
            )
        try:
            return cls(**found)
        except (LoadingError, TypeError) as error:
            raise LoadingError(f"{path}: {error}") from error

    @classmethod
    def of_checkpoint(cls, how: Denoising | None) -> Settings:
        """What suits a checkpoint without an adapter: `PLAIN` for an AR model, else as it was trained.

        Of a model adapted to diffusion whose config.json does not say how, full attention is assumed.
        """
        if how is None:
            return PLAIN
        if how.attention != "block":
            return cls(logit_shift=how.shifted, attention="full")
        block = how.block or 32
        return cls(
            logit_shift=how.shifted,
            block_tokens=max(block, 32),
            text_block_tokens=block,
            attention="block",
            attention_block_tokens=block,
        )

    def context_start(self, length: int) -> int:
        """From which of `length` clean tokens on a pass over the next block must compute them, too: they see it."""
        match self.attention:
            case "causal":
                return length
            case "block":
                return length - length % self.attention_block_tokens
            case "full":
                return 0

    @property
    def line(self) -> str:
        """All settings in one line of JSON, for fingerprints."""
        return json.dumps(asdict(self), sort_keys=True)


PLAIN = Settings(block_tokens=64, most_steps=8, slot_tokens=16)
"""For plain AR weights. They are poor denoisers and more steps do not make them better: SmolLM2-135M wrote six
address fields as wrongly in 8 passes as in 133."""
