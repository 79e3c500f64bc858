"""Whatever a model wants, what it may write parses: answers of random models under every kind of contract."""

import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.engines.autoregressive.guide import Guide, Guides
from carrara.engines.autoregressive.local import longest_string
from carrara.engines.contract import Choice, Column, Contract, Json, Outline, Regex, Table, Text
from carrara.engines.errors import EngineRefused
from carrara.engines.tokenizer import Tokenizer

KINDS = ("string", "integer", "number", "boolean", "date")


@pytest.fixture(scope="module")
def guides(tiny_folder: Path) -> Guides:
    return Guides(Tokenizer.from_folder(tiny_folder))


@pytest.fixture(scope="module")
def tokenizer(tiny_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(tiny_folder)


def allowed(guide: Guide, size: int) -> list[int]:
    bits = np.zeros(-(-size // 32), dtype=np.int32)
    guide.allowed(bits)
    return np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little")[:size]).tolist()


def write(
    guides: Guides, tokenizer: Tokenizer, contract: Contract, seed: int, most: int = 4000
) -> str:
    """An answer of a model that wants anything; it comes to an end soon where it may."""
    guide = guides.start(contract, longest_string(8))
    assert guide is not None
    draw = random.Random(seed)
    tokens = guide.forced()
    while not guide.is_finished and len(tokens) < most:
        options = allowed(guide, tokenizer.vocab_size)
        assert options, "nothing may follow, not even the end"
        assert not (set(options) & tokenizer.special_ids) - tokenizer.eos_ids
        if options[0] in tokenizer.eos_ids or 2 in options:
            assert guide.may_end
            if draw.random() < 0.3:
                break
        token = draw.choice([option for option in options if option != 2] or [2])
        if token == 2:
            break
        tokens += [token, *guide.take(token)]
    assert guide.is_finished or guide.may_end, "ran on for ever"
    return b"".join(map(tokenizer.token_bytes, tokens)).decode()


@cache
def words() -> st.SearchStrategy[str]:
    return st.text('ab"\\é|`*#- 1', min_size=1, max_size=8).filter(
        lambda word: word.strip() == word
    )


COLUMNS = st.lists(
    st.builds(Column, words().filter(lambda word: "|" not in word), st.sampled_from(KINDS)),
    min_size=1,
    max_size=4,
    unique_by=lambda column: " ".join(column.name.split()),
)


@settings(max_examples=60, deadline=None)
@given(columns=COLUMNS, least=st.integers(0, 2), more=st.integers(0, 2), seed=st.integers(0, 99))
def test_any_table_parses(
    guides: Guides, tokenizer: Tokenizer, columns: list[Column], least: int, more: int, seed: int
) -> None:
    contract = Table(tuple(columns), least, least + more)
    rows = contract.parse(write(guides, tokenizer, contract, seed))
    assert least <= len(rows) <= least + more


@settings(max_examples=60, deadline=None)
@given(
    depth=st.integers(1, 4),
    least=st.integers(1, 3),
    more=st.integers(0, 2),
    seed=st.integers(0, 99),
)
def test_any_outline_parses(
    guides: Guides, tokenizer: Tokenizer, depth: int, least: int, more: int, seed: int
) -> None:
    contract = Outline(depth, least, least + more)
    items = contract.parse(write(guides, tokenizer, contract, seed))
    assert least <= len(items) <= least + more


@settings(max_examples=40, deadline=None)
@given(
    options=st.lists(
        st.text(min_size=1, max_size=6).filter(lambda o: o.strip() == o),
        min_size=1,
        max_size=5,
        unique=True,
    ),
    seed=st.integers(0, 99),
)
def test_any_choice_is_one_of_its_options(
    guides: Guides, tokenizer: Tokenizer, options: list[str], seed: int
) -> None:
    contract = Choice(tuple(options))
    assert contract.parse(write(guides, tokenizer, contract, seed)) in options


LEAVES: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {"type": "string"},
        {"type": "string", "format": "date"},
        {"type": "string", "pattern": "^[a-c]{2,3}$"},
        {"type": "integer", "minimum": -3, "maximum": 1200},
        {"type": "number"},
        {"type": "boolean"},
        {"type": "null"},
        {"enum": ["red", "reddish", 3, None]},
        {"const": {"a": [1, "é"]}},
    ]
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda parts: st.one_of(
        st.builds(
            lambda part, most: {"type": "array", "items": part, "maxItems": most},
            parts,
            st.integers(0, 3),
        ),
        st.builds(lambda one, two: {"anyOf": [one, two]}, parts, parts),
        st.builds(
            lambda names, required: {
                "type": "object",
                "properties": names,
                "required": sorted(set(names) & set(required)),
            },
            st.dictionaries(st.sampled_from(["a", "b c", 'd"', "é"]), parts, max_size=3),
            st.lists(st.sampled_from(["a", "é"]), max_size=2),
        ),
    ),
    max_leaves=5,
)


@settings(max_examples=120, deadline=None)
@given(schema=SCHEMAS, seed=st.integers(0, 99))
def test_any_json_parses_and_fits_its_schema(
    guides: Guides, tokenizer: Tokenizer, schema: dict[str, Any], seed: int
) -> None:
    contract = Json.of(schema)
    text = write(guides, tokenizer, contract, seed)
    contract.parse(text)
    assert "\n" not in text


@pytest.mark.parametrize(
    "pattern",
    [
        r"[A-Z]{2}-\d{4}",
        r"^(?P<year>\d{4})/(0[1-9]|1[0-2])$",
        r"\w+@\w+\.(org|com)",
        r'say "\D{1,3}"',
        r"[\w.-]{1,10}(\s[\d,]+)?",
        r"a/b|c\\d",
        r"\AX\Z",
        r"\W{2,4}\S{1,3}",
    ],
)
def test_any_text_under_a_pattern_matches_it(
    guides: Guides, tokenizer: Tokenizer, pattern: str
) -> None:
    for seed in range(25):
        text = write(guides, tokenizer, Regex(pattern), seed)
        assert Regex(pattern).parse(text).strip() == text.strip()


def test_json_is_written_on_one_line_with_a_space_after_each_mark(
    guides: Guides, tokenizer: Tokenizer
) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"const": 1}, "b": {"type": "null"}},
        "required": ["a"],
    }
    assert write(guides, tokenizer, Json.of(schema), 0) == '{"a": 1, "b": null}'


def test_the_space_before_a_pipe_is_not_taken_for_more_of_the_cell(
    guides: Guides, tokenizer: Tokenizer
) -> None:
    guide = guides.start(Table((Column("a"), Column("b"))), 64)
    assert guide is not None
    guide.forced()
    wanted = tokenizer.encode("\n| x | y |")
    while wanted:
        token = wanted.pop(0)
        assert token in allowed(guide, tokenizer.vocab_size)
        forced = guide.take(token)
        assert wanted[: len(forced)] == forced
        del wanted[: len(forced)]


def test_free_text_has_no_grammar(guides: Guides) -> None:
    assert guides.start(Text(), 64) is None


@pytest.mark.parametrize("pattern", [r"a(?=b)", r"(a)\1", r"a\b"])
def test_a_pattern_that_no_automaton_can_follow_is_refused(guides: Guides, pattern: str) -> None:
    with pytest.raises(EngineRefused, match="'regex' as a grammar"):
        guides.start(Regex(pattern), 64)


def test_keywords_that_are_not_known_are_left_to_validation(guides: Guides) -> None:
    schema = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    assert guides.start(Json.of(schema), 64) is not None


def test_a_schema_that_nothing_fits_is_refused(guides: Guides) -> None:
    with pytest.raises(EngineRefused, match="'json' as a grammar"):
        guides.start(Json.of({"type": "integer", "minimum": 3, "maximum": 2}), 64)
