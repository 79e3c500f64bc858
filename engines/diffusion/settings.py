"""How a model denoises: what an adapter says about itself in `diffusion.json` beside its weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from carrara.engines.errors import LoadingError

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

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("tokens") and (not isinstance(value, int) or value < 1):
                raise LoadingError(f"{FILE}: {field.name} is a number of at least 1, not {value!r}")
        if self.most_steps is not None and self.most_steps < 1:
            raise LoadingError(f"{FILE}: most_steps is at least 1, not {self.most_steps!r}")
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

    @property
    def line(self) -> str:
        """All settings in one line of JSON, for fingerprints."""
        return json.dumps(asdict(self), sort_keys=True)


PLAIN = Settings(block_tokens=64, most_steps=8, slot_tokens=16)
"""For plain AR weights. They are poor denoisers and more steps do not make them better: SmolLM2-135M wrote six
address fields as wrongly in 8 passes as in 133."""
