"""A text in pieces: what comes out is the repaired text, and prose comes out before the end."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.runtime.repair import RepairStream, repair_text
from carrara.runtime.repair import stream as stream_module
from tests.runtime.repair.material import CLEAN

PAGE = (
    "First words here.\n\nSecond paragraph.\n\n| a | b |\n|---|\n| 1 | 2 || 3 | 4 |\n\nAfter the table.\n\n"
    "1. one\n2. two\n2. three\n\nAfter the list.\n\nOne more.\n\n```sh\nls\n"
)


def streamed(text: str, kind: str, seed: int) -> tuple[str, int]:
    """The joined output, and how much of it came before the end."""
    chance = random.Random(seed)
    stream = RepairStream(kind)
    at, out = 0, ""
    while at < len(text):
        size = chance.randint(1, 25)
        out += stream.feed(text[at : at + size])
        at += size
    early = len(out)
    return out + stream.close(), early


@given(st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_however_it_is_cut_a_broken_page_comes_out_mended(seed: int) -> None:
    out, early = streamed(PAGE, "mixed", seed)
    assert out == repair_text(PAGE, "mixed")
    assert early > len("First words here.")


@pytest.mark.parametrize(("kind", "text"), CLEAN)
def test_sound_text_comes_out_as_it_went_in(kind: str, text: str) -> None:
    assert streamed(text, kind, 3)[0] == text
    assert streamed(text, "auto", 4)[0] == text


def test_json_comes_out_at_the_end() -> None:
    out, early = streamed('Sure:\n\n```json\n{"a": [1, 2}\n```\n', "json", 5)
    assert (out, early) == ('{"a": [1, 2]}', 0)


def test_a_long_list_in_small_pieces_is_not_looked_at_with_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[int] = []
    sure_end = stream_module._sure_end
    monkeypatch.setattr(
        stream_module, "_sure_end", lambda text: looks.append(len(text)) or sure_end(text)
    )
    text = "".join(f"- item {n}\n\n" for n in range(1000))
    assert streamed(text, "list", 6)[0] == text
    assert sum(looks) < 40 * len(text)


def test_each_part_has_its_report() -> None:
    stream = RepairStream("mixed")
    stream.feed(PAGE)
    stream.close()
    rules = [edit.rule for report in stream.reports for edit in report.edits]
    assert rules == ["delim_short", "rows_merged", "numbering", "fence_unclosed"]
