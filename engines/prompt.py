"""The prompt of a local engine: its tokens, or a refusal where prompt and answer are longer than the context.

Far too long texts are told by their length: counting the tokens of 5 MB takes seconds.
"""

from __future__ import annotations

from carrara.engines.errors import ContextOverflow
from carrara.engines.request import Request
from carrara.engines.tokenizer import Tokenizer


def prompt_tokens(
    request: Request, tokenizer: Tokenizer, context_tokens: int, engine: str
) -> list[int]:
    """The tokens of the request's messages in the chat template. Runs on any thread.

    Raises:
        ContextOverflow: prompt and answer have more than `context_tokens` tokens; says how many there are, or how
        many characters where they alone are too many.
    """
    found = bare_prompt(request, tokenizer, context_tokens, engine)
    check_room(len(found), request, request.limits.max_tokens, context_tokens, engine)
    return found


def bare_prompt(
    request: Request, tokenizer: Tokenizer, context_tokens: int, engine: str
) -> list[int]:
    """The tokens of the messages, before it is known how long the answer may get; `check_room` is for then.

    Raises:
        ContextOverflow: so many characters that no answer has a place behind them.
    """
    size = sum(len(message.content) for message in request.messages)
    if size > context_tokens * tokenizer.longest_token_bytes:  # a character has at least one byte
        most = request.limits.max_tokens
        raise _too_long(f"a prompt of {size:,} characters", request, most, context_tokens, engine)
    return tokenizer.encode_chat(request.messages)


def check_room(prompt: int, request: Request, most: int, context_tokens: int, engine: str) -> None:
    """Refuse what does not fit into the context: `prompt` tokens, and at most `most` of answer.

    Raises:
        ContextOverflow: says how many there are.
    """
    if prompt + most > context_tokens:
        raise _too_long(f"{prompt:,} prompt tokens", request, most, context_tokens, engine)


def _too_long(
    prompt: str, request: Request, most: int, context_tokens: int, engine: str
) -> ContextOverflow:
    lower = " or lower max_tokens" if most == request.limits.max_tokens else ""
    return ContextOverflow(
        f"engine {engine!r} refused {prompt} and {most:,} tokens of answer, its context holds "
        f"{context_tokens:,}. Shorten the input{lower}.",
        engine=engine,
    )
