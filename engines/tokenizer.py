"""Text to token ids and back, where text is data: no text of a user can become a control token.

A wrapper around the `tokenizers` library for byte-level BPE vocabularies (and SentencePiece ones with
byte fallback), read from a Hugging Face folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from carrara.engines.chat_template import ChatTemplate
from carrara.engines.errors import LoadingError
from carrara.engines.request import Message
from carrara.engines.surrogates import paired
from carrara.engines.token_bytes import spelling, token_bytes
from carrara.engines.tokenizer_folder import TokenizerFolder

if TYPE_CHECKING:
    import tokenizers

_REPLACEMENT = "\ufffd"
_LONG_CHARACTERS = 20_000


class Tokenizer:
    """The tokenizer of one model. Safe to use from several threads.

    `vocab_size` counts as the model's logits do, so ids that no token has are among them. `eos_ids` end
    an answer, `pad_id` fills up batches. `special_ids` write nothing: the control tokens, and the mask
    and slot pad of diffusion.
    """

    def __init__(
        self, files: TokenizerFolder, mask_id: int | None = None, slot_pad_id: int | None = None
    ) -> None:
        self._files = files
        self._controls = files.controls()
        self._inner = files.load()
        self._mask_id = files.mask_id() if mask_id is None else mask_id
        self._slot_pad_id = files.slot_pad_id() if slot_pad_id is None else slot_pad_id
        if self._slot_pad_id is None:
            self._slot_pad_id = _unused(files, self._inner)
        self.bos_id = files.id_of("bos")
        self.eos_ids = files.eos_ids()
        pad_id = files.id_of("pad")
        self.pad_id: int = min(self.eos_ids, default=0) if pad_id is None else pad_id
        special = {token["id"] for token in files.added() if token.get("special")}
        spare = {i for i in (self._mask_id, self._slot_pad_id) if i is not None}
        self.special_ids = frozenset(special | spare)
        self.vocab_size = _vocab_size(files, self._inner)
        self._check_ids()

    @classmethod
    def from_folder(
        cls, folder: Path, *, mask_id: int | None = None, slot_pad_id: int | None = None
    ) -> Tokenizer:
        """Read the tokenizer of a Hugging Face folder. The two ids, an adapter's say, win over the folder's.

        Raises:
            LoadingError: tokenizer.json is missing or damaged, of a kind without exact bytes, or does not
            fit the model.
        """
        return cls(TokenizerFolder.read(Path(folder)), mask_id, slot_pad_id)

    @property
    def mask_id(self) -> int:
        """The token that stands for "not yet decided" on a canvas.

        Raises:
            LoadingError: the vocabulary has no token for it.
        """
        return self._spare(self._mask_id, "mask")

    @property
    def slot_pad_id(self) -> int:
        """The token that fills the spare length of a slot and is dropped.

        Raises:
            LoadingError: the vocabulary has no token for it.
        """
        return self._spare(self._slot_pad_id, "slot_pad")

    def encode(self, text: str) -> list[int]:
        """The ids of `text` as data, never one of a control token: "<|im_end|>" is spelled out.

        A character that the vocabulary has no bytes for becomes U+FFFD; so do lone surrogates.
        """
        ids = self._ids(self._writable(text))
        respelled = self._respelled
        if respelled.keys().isdisjoint(ids):
            return ids
        return [each for i in ids for each in respelled.get(i, (i,))]

    def _ids(self, text: str) -> list[int]:
        if len(text) <= _LONG_CHARACTERS:
            ids: list[int] = self._inner.encode(text, add_special_tokens=False).ids
            return ids
        # For one text the library holds the interpreter's lock until it is done, for a batch it does not.
        found: list[int] = self._inner.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return found

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a conversation in the model's template, up to where the answer begins.

        The ids are those of the whole rendered text, but contents are data as in `encode`.

        Raises:
            EngineRefused: the template does not take such a conversation (two user turns in a row, say).
            LoadingError: the folder has no chat template, or a broken one.
        """
        ids: list[int] = []
        for segment in self._template.segments(messages):
            ids.extend(self.encode(segment) if isinstance(segment, str) else [segment.id])
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text that `ids` write; special ones write nothing, bytes that are no UTF-8 become U+FFFD."""
        written = b"".join(map(self.vocabulary.__getitem__, ids))
        text = written.decode("utf-8", "replace")
        return text[1:] if self._leads_with_space and text.startswith(" ") else text

    def token_bytes(self, i: int) -> bytes:
        """What token `i` writes, b"" for special tokens and for ids that no token has."""
        return self.vocabulary[i]

    @cached_property
    def vocabulary(self) -> tuple[bytes, ...]:
        """`token_bytes` of every id below `vocab_size`; made at first use, about 0.1 s for 49,152 tokens."""
        how = spelling(self._files.spec)
        if how is None:
            raise LoadingError(
                f"{self._where}: neither byte-level BPE nor SentencePiece with byte fallback"
            )
        written = [b""] * self.vocab_size
        own = self._inner.get_vocab(with_added_tokens=False)
        for i, spelled in token_bytes(own, how).items():
            written[i] = spelled
        for token in self._files.added():
            written[token["id"]] = token["content"].encode("utf-8")
        for i in self.special_ids:
            written[i] = b""
        return tuple(written)

    @cached_property
    def longest_token_bytes(self) -> int:
        """The most bytes that one token writes."""
        return max(map(len, self.vocabulary))

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the vocabulary, the chat template and the ids above."""
        ids = (self._mask_id, self._slot_pad_id, sorted(self.eos_ids), self.pad_id, self.vocab_size)
        parts = json.dumps([self._files.spec_sha256, self._files.template, ids])
        return hashlib.blake2b(parts.encode(), digest_size=8).hexdigest()

    @property
    def _where(self) -> Path:
        return self._files.folder / "tokenizer.json"

    @cached_property
    def _template(self) -> ChatTemplate:
        files = self._files
        if files.template is None:
            raise LoadingError(
                f"{files.folder}: has no chat template. Add chat_template.jinja, "
                "or use the chat variant of the model."
            )
        named = {f"{key}_token": files.named(key) or "" for key in ("bos", "eos", "pad", "unk")}
        where = f"chat template of {files.folder}"
        return ChatTemplate(files.template, self._controls, named, where)

    @cached_property
    def _leads_with_space(self) -> bool:
        # SentencePiece puts a space before the text and its decoder takes it off.
        decoder = self._files.spec.get("decoder") or {}
        parts = decoder.get("decoders", [])
        return any(p.get("type") == "Strip" and p.get("content") == " " for p in parts)

    @cached_property
    def _respelled(self) -> dict[int, list[int]]:
        """Mask and slot pad where they are words of the vocabulary: the single bytes that text writes instead."""
        own = self._inner.get_vocab(with_added_tokens=False)
        added = {token["id"] for token in self._files.added()}
        spare = {self._mask_id, self._slot_pad_id} & set(own.values()) - added
        how = spelling(self._files.spec)
        if not spare or how is None:
            return {}
        written = token_bytes(own, how)
        single = {raw: i for i, raw in written.items() if len(raw) == 1 and i not in spare}
        try:
            return {i: [single[bytes([b])] for b in written[i]] for i in spare if i is not None}
        except KeyError as error:
            raise LoadingError(
                f"{self._where}: the mask or slot pad token is a word that text cannot write otherwise: there is no "
                f"token for the byte {error}. Name an unused token."
            ) from error

    @cached_property
    def _byte_alphabet(self) -> bytes | None:
        """The bytes that single tokens can write, None if every byte can be written some way."""
        if spelling(self._files.spec) != "byte-level":
            return None
        single = b"".join(token for token in self.vocabulary if len(token) == 1)
        return single if len(set(single)) < 256 else None

    def _writable(self, text: str) -> str:
        text = paired(text)
        raw = text.encode()
        alphabet = self._byte_alphabet
        if alphabet is None or not raw.translate(None, alphabet):
            return text
        # The library would leave such a character out without a word.
        replacement = "" if _REPLACEMENT.encode().translate(None, alphabet) else _REPLACEMENT
        return "".join(replacement if c.encode().translate(None, alphabet) else c for c in text)

    def _spare(self, found: int | None, key: str) -> int:
        if found is None:
            raise LoadingError(
                f"{self._files.folder}: no token of this vocabulary can be the {key} token of diffusion. "
                f'Name an unused one in config.json as "{key}_token_id".'
            )
        return found

    def _check_ids(self) -> None:
        spare = [i for i in (self._mask_id, self._slot_pad_id) if i is not None]
        named = {"mask": self._mask_id, "slot_pad": self._slot_pad_id, "pad": self.pad_id}
        for key, i in (*named.items(), *(("eos", end) for end in self.eos_ids)):
            if i is not None and not 0 <= i < self.vocab_size:
                raise LoadingError(
                    f"{self._files.folder}: {key}_token_id {i} is not below {self.vocab_size}"
                )
        if len(set(spare)) < len(spare) or self.eos_ids.intersection(spare):
            raise LoadingError(
                f"{self._files.folder}: mask {self._mask_id}, slot pad {self._slot_pad_id} and "
                f"end of text {sorted(self.eos_ids)} must be different tokens"
            )
        controls = {control.id for control in self._controls}
        for control in self._controls:
            if controls.intersection(self.encode(control.text)):
                raise LoadingError(
                    f"{self._where}: cannot tell a {control.text!r} in a text from the control token"
                )


def _vocab_size(files: TokenizerFolder, inner: tokenizers.Tokenizer) -> int:
    highest = max(inner.get_vocab(with_added_tokens=False).values(), default=-1)
    highest = max(highest, *(token["id"] for token in files.added()), 0)
    stated = files.rows
    if stated is not None and highest >= stated:
        raise LoadingError(
            f"{files.folder}: tokenizer.json has the token id {highest}, config.json only {stated} ids; "
            "the two belong to different models"
        )
    return stated or highest + 1


def _unused(files: TokenizerFolder, inner: tokenizers.Tokenizer) -> int | None:
    """An id that the model has and no token, the last one; None where every id has a token."""
    used = max(inner.get_vocab(with_added_tokens=True).values(), default=-1)
    return files.rows - 1 if files.rows is not None and files.rows - 1 > used else None
