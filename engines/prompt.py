"""The prompt of a local engine: its tokens, or a refusal where prompt and answer are longer than the context.

Far too long texts are told by their length: counting the tokens of 5 MB takes seconds.
"""

from __future__ import annotations

from carrara.engines.errors import EngineRefused
from carrara.engines.request import Request
from carrara.engines.tokenizer import Tokenizer


def prompt_tokens(
    request: Request, tokenizer: Tokenizer, context_tokens: int, engine: str
) -> list[int]:
    """The tokens of the request's messages in the chat template. Runs on any thread.

    Raises:
        EngineRefused: `max_tokens` is below 1, or prompt and answer have more than `context_tokens` tokens; says
        how many there are, or how many characters where they alone are too many.
    """
    most = request.limits.max_tokens
    if most < 1:
        raise EngineRefused(f"max_tokens is {most}, it must be at least 1", engine=engine)
    size = sum(len(message.content) for message in request.messages)
    if size > context_tokens * tokenizer.longest_token_bytes:  # a character has at least one byte
        raise _too_long(f"a prompt of {size:,} characters", most, context_tokens, engine)
    found = tokenizer.encode_chat(request.messages)
    if len(found) + most > context_tokens:
        raise _too_long(f"{len(found):,} prompt tokens", most, context_tokens, engine)
    return found


def _too_long(prompt: str, most: int, context_tokens: int, engine: str) -> EngineRefused:
    return EngineRefused(
        f"engine {engine!r} refused {prompt} and {most:,} tokens of answer, its context holds "
        f"{context_tokens:,}. Shorten the input or lower max_tokens.",
        engine=engine,
    )
