"""Tokens are estimated by the script that a text is written in."""

import pytest

from carrara.engines.request import Message
from carrara.runtime.routing.estimate import estimated_text_tokens, estimated_tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("Dear Ann,", 2),
        ("Grüße … „Ärger“ và Việt", 5),
        ("Привет мир", 4),
        ("שלום", 2),
        ("東京は日本の首都です", 10),
        ("서울은 수도", 5),
        ("नमस्ते", 6),
        ("สวัสดี", 6),
        ("😀😀", 2),
        ("Tokyo 東京", 3),
    ],
)
def test_a_text_is_estimated_by_its_script(text: str, tokens: int) -> None:
    assert estimated_text_tokens(text) == tokens


def test_messages_are_estimated_together() -> None:
    turns = (Message("system", "abc"), Message("user", "d東京"))
    assert estimated_tokens(turns) == 3
