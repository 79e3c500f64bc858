"""What users write is data on every family: no text becomes a mask, a pad, an end of text or a turn.

Each family's vocabulary is in small: all bytes, and its published control tokens at the ids of its tiny checkpoint.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from carrara.engines.contract import Choice, Json
from carrara.engines.diffusion.prepare import CanvasMaker
from carrara.engines.diffusion.scaffold.lexicon import Lexicon
from carrara.engines.diffusion.settings import Settings
from carrara.engines.refining import refining
from carrara.engines.request import Draft, Limits, Message, Request
from carrara.engines.tokenizer import Tokenizer

GOLDENS = Path(__file__).parents[1] / "goldens"
SIZE = 320


@dataclass(frozen=True)
class Family:
    """The control tokens of a family, those for eos and mask first; ids count from `first` where `ids` names none."""

    eos: str
    mask: str
    others: tuple[str, ...]
    config: dict[str, int]
    byte_fallback: bool = False


def config_of(name: str, **more: int) -> dict[str, int]:
    found = json.loads((GOLDENS / name / "config.json").read_text())
    return {key: found[key] for key in ("eos_token_id", "mask_token_id") if key in found} | more


CHATML = ("<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<think>", "<|slot_pad|>")
FAMILIES = {
    "llada": Family(
        "<|endoftext|>",
        "<|mdm_mask|>",
        ("<|startoftext|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "[gMASK]"),
        config_of("llada"),
    ),
    "dream": Family("<|endoftext|>", "<|mask|>", CHATML, config_of("dream")),
    "sdar": Family("<|endoftext|>", "<|MASK|>", CHATML, config_of("sdar")),
    "llada21": Family(
        "<|endoftext|>",
        "<|mask|>",
        ("<role>", "</role>", "<|role_end|>", "[gMASK]", "[CLS]", "<|number_end|>"),
        config_of("llada21", mask_token_id=301),
    ),
    "a2d_llama": Family("<|im_end|>", "<|mask|>", ("<|im_start|>",), config_of("a2d_llama")),
    "a2d_qwen3": Family("<|endoftext|>", "<|mask|>", CHATML, {"eos_token_id": 292}),
    "gemma": Family(
        "<eos>",
        "<mask>",
        ("<bos>", "<start_of_turn>", "<end_of_turn>", "<|channel>", "<start_of_image>"),
        {"eos_token_id": 261},
        byte_fallback=True,
    ),
}


def vocabulary(family: Family) -> tuple[dict[str, int], dict[str, int]]:
    """All names by id, and the control tokens among them."""
    if family.byte_fallback:
        plain = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    else:
        plain = sorted(pre_tokenizers.ByteLevel.alphabet())
    fixed = {
        name: family.config[key]
        for name, key in ((family.eos, "eos_token_id"), (family.mask, "mask_token_id"))
        if key in family.config
    }
    taken = set(fixed.values())
    free = (i for i in range(SIZE) if i not in taken)
    named = {name: next(free) for name in plain}
    controls = fixed | {
        name: next(free) for name in (family.eos, family.mask, *family.others) if name not in fixed
    }
    return named | controls, controls


def made(family: Family, folder: Path) -> Tokenizer:
    names, controls = vocabulary(family)
    inner = tokenizers.Tokenizer(
        models.BPE(names, [], unk_token="<unk>", byte_fallback=True)
        if family.byte_fallback
        else models.BPE(names, [])
    )
    if family.byte_fallback:
        inner.normalizer = tokenizers.normalizers.Replace(" ", "▁")
        inner.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
    else:
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
    # Some tags are ordinary added tokens in published vocabularies.
    for name in controls:
        token = tokenizers.AddedToken(name, normalized=False, special=not name.endswith("_call>"))
        inner.add_tokens([token])
    inner.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"vocab_size": SIZE, **family.config}))
    turn = family.others[0]
    template = (
        "{% for m in messages %}"
        f"{turn}{{{{ m.role }}}}\n{{{{ m.content }}}}{family.eos}\n"
        f"{{% endfor %}}{turn}assistant\n"
    )
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    return Tokenizer.from_folder(folder, slot_pad_id=SIZE - 1)


_made: dict[str, Tokenizer] = {}


@pytest.fixture(params=FAMILIES, scope="module")
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    name = str(request.param)
    if name not in _made:
        _made[name] = made(FAMILIES[name], tmp_path_factory.mktemp(name))
    return name


PIECES = sorted({one for f in FAMILIES.values() for one in (f.eos, f.mask, *f.others)})
TEXTS = st.lists(
    st.sampled_from([*PIECES, "<", "|", ">", "mask", "<|", "|>", " ", "\n", "a", "é", "[", "]"]),
    max_size=8,
).map("".join)


@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_a_text_is_spelled_out_whatever_it_holds(family: str, text: str) -> None:
    tokenizer = _made[family]
    reserved = {
        tokenizer.mask_id,
        tokenizer.slot_pad_id,
        *tokenizer.eos_ids,
        *tokenizer.special_ids,
    }
    ids = tokenizer.encode(text)
    assert reserved.isdisjoint(ids)
    assert tokenizer.decode(ids) == text


@settings(max_examples=40, deadline=None)
@given(text=TEXTS.filter(str.strip))
def test_a_turn_stays_within_its_frame(family: str, text: str) -> None:
    tokenizer = _made[family]
    controls = {i for i in range(SIZE) if i in tokenizer.special_ids}
    framed = [i for i in tokenizer.encode_chat([Message("user", text)]) if i in controls]
    usual = [i for i in tokenizer.encode_chat([Message("user", "x")]) if i in controls]
    assert framed == usual
    assert tokenizer.mask_id not in framed


def test_drafts_labels_and_keys_are_data_too(family: str) -> None:
    tokenizer = _made[family]
    maker, mask = CanvasMaker.of(Lexicon(tokenizer)), FAMILIES[family].mask
    message, limits = (Message("user", "x"),), Limits(400)
    plain = Settings(block_tokens=400)
    draft = Draft(f"one {mask} two", strength=0.01)
    request = Request(message, limits=limits, draft=draft)
    refined = refining(request, tokenizer.encode, tokenizer.vocabulary)
    assert refined is not None
    view = maker.canvas(maker.roomy(refined.request), plain).view()
    assert view is not None
    shown = {at for at, token in enumerate(view.tokens) if token == tokenizer.mask_id}
    assert shown <= {site.offset for site in view.sites}  # none of what the text spells

    masked = []
    for word in (mask, "x" * len(mask)):
        schema = {"type": "object", "properties": {word: {"enum": [f"a{word}", f"b{word}"]}}}
        for contract in (Choice((f"a{word}", f"b{word}")), Json.of({**schema, "required": [word]})):
            view = maker.canvas(Request(message, contract, limits), plain).view()
            assert view is not None
            masked.append((len(view.tokens), view.tokens.count(tokenizer.mask_id)))
    assert masked[:2] == masked[2:]


def test_a_mask_that_is_a_word_of_the_vocabulary_is_not_formed_by_text(tmp_path: Path) -> None:
    family = FAMILIES["dream"]
    made(family, tmp_path)
    spec = json.loads((tmp_path / "tokenizer.json").read_text())
    spec["model"]["vocab"] |= {"th": 310, "the": 311}
    spec["model"]["merges"] = [["t", "h"], ["th", "e"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    tokenizer = Tokenizer.from_folder(tmp_path, mask_id=311, slot_pad_id=310)
    ids = tokenizer.encode("the other th")
    assert not {310, 311} & set(ids)
    assert tokenizer.decode(ids) == "the other th"
