"""What of a draft is read in a verifying pass, and where decisions are taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from carrara.engines.autoregressive.guide import Guides
from carrara.engines.contract import Json
from carrara.engines.tokenizer import Tokenizer
from carrara.engines.verified.ahead import look_ahead
from carrara.engines.verified.draft import Draft, Piece

TRUTH = Json.of(
    {
        "type": "object",
        "properties": {"true": {"type": "boolean"}, "number": {"type": "integer"}},
        "required": ["true", "number"],
    }
)


@pytest.fixture(scope="module")
def tokenizer(tiny_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(tiny_folder)


def draft(tokenizer: Tokenizer, text: str, sure: float = 1.0) -> Draft:
    made = Draft(tokenizer.encode, tokenizer.vocabulary)
    made.extend(Piece(t, tokenizer.vocabulary[t], sure) for t in tokenizer.encode(text))
    return made


def test_free_text_is_read_as_far_as_it_is_likely(tokenizer: Tokenizer) -> None:
    vocabulary, text = tokenizer.vocabulary, "the town of an inn"
    ids = tuple(tokenizer.encode(text))
    whole = look_ahead(None, draft(tokenizer, text), vocabulary, 50)
    assert whole.tokens == ids
    assert [point.at for point in whole.points] == list(range(len(ids) + 1))
    assert all(point.mask is None for point in whole.points)
    doubtful = look_ahead(None, draft(tokenizer, text, 0.6), vocabulary, 50)
    assert doubtful.tokens == ids[:3]  # 0.6 ** 4 is too little
    assert len(look_ahead(None, draft(tokenizer, text), vocabulary, 2).tokens) == 2


def test_without_a_draft_one_decision_is_due(tokenizer: Tokenizer) -> None:
    found = look_ahead(None, None, tokenizer.vocabulary, 50)
    assert (found.tokens, [point.at for point in found.points]) == ((), [0])


def test_forced_tokens_are_read_without_a_decision(tokenizer: Tokenizer) -> None:
    guide = Guides(tokenizer).start(TRUTH, 64)
    assert guide is not None
    opening = guide.forced()
    begun = "".join(tokenizer.decode([token]) for token in opening)
    found = draft(tokenizer, '{"true": true, "number": 12}')
    found.follow(begun.encode(), len(begun))
    ahead = look_ahead(guide, found, tokenizer.vocabulary, 50)
    written = begun + tokenizer.decode(ahead.tokens)
    assert written.startswith('{"true": true, "number": 1')
    assert len(ahead.points) < len(ahead.tokens)
    for point in ahead.points:
        assert point.mask is not None
        assert 0 < np.unpackbits(point.mask.view(np.uint8)).sum() < 320
    guide.take(ahead.tokens[0])  # a copy has looked ahead: this one still stands at the beginning


def test_what_the_grammar_shuts_out_is_not_read(tokenizer: Tokenizer) -> None:
    guide = Guides(tokenizer).start(TRUTH, 64)
    assert guide is not None
    begun = "".join(tokenizer.decode([token]) for token in guide.forced())
    found = draft(tokenizer, begun + "null, null")
    found.follow(begun.encode(), len(begun))
    ahead = look_ahead(guide, found, tokenizer.vocabulary, 50)
    assert (ahead.tokens, len(ahead.points)) == ((), 1)
