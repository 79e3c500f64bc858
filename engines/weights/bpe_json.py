"""A byte-level BPE tokenizer out of GGUF metadata, written as tokenizer.json and tokenizer_config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrara.engines.errors import LoadingError
from carrara.engines.weights.gguf_file import GgufFile

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_CONTROL = 3
DIGIT_BY_DIGIT = ("smollm",)
"""llama.cpp's name of the one way of splitting text that is known here: digits apart, then GPT-2's."""


def write_tokenizer(file: GgufFile, folder: Path, context_tokens: int) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja into `folder`.

    Raises:
        LoadingError: another kind of tokenizer than byte-level BPE, or one that splits text in an unknown
        way.
    """
    known = file.metadata
    try:
        build(file).save(str(folder / "tokenizer.json"), pretty=False)
        tokens = known["tokenizer.ggml.tokens"]
        eos = known["tokenizer.ggml.eos_token_id"]
        named = {
            "bos_token": tokens[known.get("tokenizer.ggml.bos_token_id", eos)],
            "eos_token": tokens[eos],
            "pad_token": tokens[known.get("tokenizer.ggml.padding_token_id", eos)],
            "unk_token": tokens[known.get("tokenizer.ggml.unknown_token_id", eos)],
        }
    except (KeyError, IndexError) as error:
        raise LoadingError(f"{file.path}: its tokenizer metadata is not whole ({error})") from error
    config: dict[str, Any] = {
        "tokenizer_class": "GPT2TokenizerFast",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context_tokens,
        **named,
    }
    if template := known.get("tokenizer.chat_template"):
        config["chat_template"] = template
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def build(file: GgufFile) -> Tokenizer:
    """The tokenizer that the metadata of `file` describes; control tokens are special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    known = file.metadata
    kind, splits = known.get("tokenizer.ggml.model"), known.get("tokenizer.ggml.pre")
    if kind != "gpt2" or splits not in DIGIT_BY_DIGIT:
        raise LoadingError(
            f"{file.path}: tokenizer {kind!r} that splits like {splits!r} is not known, "
            f"only 'gpt2' with {', '.join(DIGIT_BY_DIGIT)}"
        )
    tokens, kinds = known["tokenizer.ggml.tokens"], known["tokenizer.ggml.token_type"]
    merges = [tuple(pair.split(" ")) for pair in known["tokenizer.ggml.merges"]]
    found = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    found.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    found.decoder = decoders.ByteLevel()
    found.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind == _CONTROL
        ]
    )
    return found
