"""What servers tell of tokens, as the OpenAI wire format has it."""

from typing import Any

import pytest

from carrara.engines.remote.openai_wire import usage_of
from carrara.engines.request import Usage


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 2}, Usage(9, 0, 2, 2)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 9}}, Usage(9, 9)),
        ({"prompt_tokens": 0, "prompt_tokens_details": {"cached_tokens": 5}}, Usage(5, 5)),
        ({"prompt_tokens": 2, "prompt_tokens_details": {"cached_tokens": 5}}, Usage(7, 5)),
        ({"prompt_tokens_details": 7}, Usage()),
        (None, Usage()),
    ],
)
def test_cached_tokens_are_a_part_of_the_prompt(told: Any, usage: Usage) -> None:
    assert usage_of(told) == usage
