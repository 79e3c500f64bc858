"""What the files of a Hugging Face folder say about its tokenizer: names, ids, template."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrara.engines.chat_template import Control
from carrara.engines.errors import LoadingError
from carrara.engines.fields import Fields

if TYPE_CHECKING:
    import tokenizers

# Where config.json names no id, the mask is the first of these that the vocabulary has. The last two are
# control tokens that models were never trained on: SmolLM2's <empty_output> (see weights/catalog.py),
# Llama 3's reserve. Where noise is random tokens the mask only marks places on our side (Gemma's <mask>).
_MASKS = (
    *("<|mask|>", "<|mdm_mask|>", "<|MASK|>", "[MASK]", "<mask>"),
    *("<empty_output>", "<|reserved_special_token_0|>"),
)
_SLOT_PADS = ("<|slot_pad|>", "<reponame>", "<|reserved_special_token_1|>", "<unused0>")

_LOOKS_LIKE_CONTROL = re.compile(r"<[^<>\s]+>|\[[A-Z_]+\]")


@dataclass(frozen=True, slots=True)
class TokenizerFolder:
    """The parsed files; those that a folder need not have are empty.

    `spec` is tokenizer.json without its vocabulary and merges, which only the library needs.
    """

    folder: Path
    spec: Mapping[str, Any]
    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    settings: Mapping[str, Any]
    template: str | None
    spec_sha256: str

    @classmethod
    def read(cls, folder: Path) -> TokenizerFolder:
        """Raises LoadingError where tokenizer.json is missing or any file is damaged."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise LoadingError(f"{path} does not exist; a model folder needs its fast tokenizer")
        settings = _json(folder / "tokenizer_config.json")
        spec = {key: value for key, value in _json(path).items() if key != "model"}
        return cls(
            folder,
            spec,
            _json(folder / "config.json"),
            _json(folder / "generation_config.json"),
            settings,
            _template(folder, settings),
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )

    def load(self) -> tokenizers.Tokenizer:
        """The library's tokenizer, which leaves every control token in a text unmatched.

        Raises:
            LoadingError: the library does not understand tokenizer.json.
        """
        import tokenizers

        path = self.folder / "tokenizer.json"
        controls = {control.text for control in self.controls()}
        added = self.spec.get("added_tokens") or []
        # Special is what the library leaves unmatched when it is told to.
        marked = [one | {"special": True} if one["content"] in controls else one for one in added]
        try:
            if marked == added:
                inner = tokenizers.Tokenizer.from_file(str(path))
            else:
                whole = json.dumps(_json(path) | {"added_tokens": marked})
                inner = tokenizers.Tokenizer.from_str(whole)
        except Exception as error:  # the library raises nothing narrower
            raise LoadingError(f"{path}: is not a tokenizer: {error}") from error
        inner.encode_special_tokens = True
        inner.no_truncation()
        inner.no_padding()
        return inner

    @property
    def rows(self) -> int | None:
        """How many ids the model has, where its config.json says so (LLaDA's may have more than its vocabulary)."""
        config = Fields(self.config, str(self.folder / "config.json"))
        text = config.part("text_config")
        sizes = text if text.found else config
        return sizes.whole("embedding_size", sizes.whole("vocab_size", None))

    def added(self) -> list[dict[str, Any]]:
        """The added tokens that the model's embedding has a row for."""
        limit = self.rows
        found = self.spec.get("added_tokens") or []
        return [token for token in found if limit is None or token["id"] < limit]

    def controls(self) -> list[Control]:
        """Added tokens that text must not be able to form: special ones, and all that look like a tag.

        Chat models declare some tags (such as tool calls) as ordinary tokens, which they write but nobody
        may forge.
        """
        return [
            Control(t["id"], t["content"], bool(t.get("lstrip")), bool(t.get("rstrip")))
            for t in self.added()
            if t.get("special") or _LOOKS_LIKE_CONTROL.fullmatch(t["content"])
        ]

    def id_of(self, key: str) -> int | None:
        """The id of "bos", "pad", "mask" or "slot_pad", None where no file names it."""
        rows = self.rows
        named = (source.token(f"{key}_token_id", rows) for source in self._sources)
        return _first(*named, self._added_id(self.named(key)))

    def named(self, key: str) -> str | None:
        """The text of the token that tokenizer_config.json calls "eos", "bos" and so on."""
        found = self.settings.get(f"{key}_token")
        found = found.get("content") if isinstance(found, dict) else found
        return found if isinstance(found, str) else None

    def eos_ids(self) -> frozenset[int]:
        """Every id that any of the files calls an end of text."""
        rows, found = self.rows, set[int]()
        for source in self._sources:
            found.update(source.tokens("eos_token_id", rows))
        if (named := self._added_id(self.named("eos"))) is not None:
            found.add(named)
        return frozenset(found)

    def mask_id(self) -> int | None:
        return _first(self.id_of("mask"), *map(self._added_id, _MASKS))

    def slot_pad_id(self) -> int | None:
        return _first(self.id_of("slot_pad"), *map(self._added_id, _SLOT_PADS))

    @property
    def _sources(self) -> tuple[Fields, Fields]:
        """The files that name ids; the first one wins."""
        return (
            Fields(self.generation, str(self.folder / "generation_config.json")),
            Fields(self.config, str(self.folder / "config.json")),
        )

    def _added_id(self, text: str | None) -> int | None:
        return next((t["id"] for t in self.added() if t["content"] == text), None)


def _first(*found: int | None) -> int | None:
    return next((one for one in found if one is not None), None)


def _template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    found = settings.get("chat_template")
    if isinstance(found, list):  # several by name, of which one may be the default
        found = next((one["template"] for one in found if one.get("name") == "default"), None)
    return found if isinstance(found, str) else None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LoadingError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise LoadingError(f"{path}: is not a JSON object")
    return found
