"""From what goes wrong at a server or on the way to it to an error of ours, with the facts.

Every status, error body and exception of httpx2 becomes one of `carrara.engines.errors` here and nowhere else. What a
server says is quoted shortly, without keys.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator, Mapping

from carrara.engines.errors import (
    AccessDenied,
    BadReply,
    ContentFiltered,
    ContextOverflow,
    EngineBusy,
    EngineError,
    EngineFailed,
    EngineRefused,
    EngineTimeout,
    Phase,
    QuotaExhausted,
    StreamCut,
    Unreachable,
)
from carrara.engines.remote.keys import Key
from carrara.engines.remote.told import Told, quoted
from carrara.engines.remote.wire import Wrong

SILENCE = "timeouts.read_s of the engine"
"""What bounds the silence of a server, unless a caller has a bound of its own."""

_BUSY = (408, 409, 425, 429, 502, 503, 504, 529)

_QUOTA_CODE = re.compile(r"insufficient_quota|billing_(hard_limit|not_active)|PerDay", re.I)
_RATE_CODE = re.compile(r"rate_?limit|\b(requests|tokens)\b|PerMinute", re.I)
_QUOTA_WORDS = re.compile(
    r"exceeded your current quota|credit balance|out of credits|insufficient (credits?|funds|balance|quota)"
    r"|billing (account|hard limit|is|has)|(enable|check|set ?up|requires?|your) billing|payment (is )?required",
    re.I,
)
_OVERFLOW = re.compile(
    r"context_length_exceeded|exceed_context_size|maximum context length|context (window|size|length)"
    r"|prompt is too long|too many (input )?tokens|input token count|longer than the maximum model length",
    re.I,
)
_FILTER = re.compile(
    r"content_filter|content_policy|safety system|flagged|moderation|blocked", re.I
)

FEATURES: Mapping[str, re.Pattern[str]] = {
    "schema": re.compile(
        r"response_format|json_schema|structured[ _]?output|output_config|grammar|guided|responseJsonSchema"
        r"|responseSchema|response_schema|\bschema\b",
        re.I,
    ),
    "structured": re.compile(r"structured[ _]outputs|regex|\bchoice\b", re.I),
    "logprobs": re.compile(r"log_?prob", re.I),
    "seed": re.compile(r"\bseed\b", re.I),
    "temperature": re.compile(r"temperature|top_?p\b", re.I),
    "stop": re.compile(r"\bstop(_?sequences)?\b", re.I),
    "max_completion_tokens": re.compile(r"max_completion_tokens", re.I),
    "stream_options": re.compile(r"stream_options", re.I),
    "pins": re.compile(r"vllm_xargs|diffusion_|canvas|extra_args", re.I),
}
"""Words by which a server says which of the optional parts of a request it does not take."""


_OF_ONE_SCHEMA = re.compile(
    r"invalid (json )?schema|schema\b.{0,60}\binvalid|pars(e|ing) (the )?grammar|grammar\b.{0,40}(pars|invalid|error)"
    r"|compil|not permitted|keyword|additionalProperties|is required|recursi|too (many|deep|large|complex)",
    re.I,
)
_REFUSING = re.compile(
    r"not (yet )?(supported|implemented|allowed|permitted|available|valid)|unsupported|unimplemented"
    r"|does(n't| not) support|invalid|unknown|unexpected|unrecogni|pars(e|ing)\b|compil|extra inputs",
    re.I,
)
_OF_ALL = re.compile(r"not (yet )?supported (for|with|by|on)", re.I)


def error_of(found: Told, engine: str, where: str) -> EngineError:
    """The error to raise for what a server told. `where` is its URL without secrets."""
    said = f"engine {engine!r}: {where} answered {found.status}: {found.message}"
    error: EngineError
    status, wait_s = found.status, found.retry_after_s
    asked = "" if wait_s is None else f". It asks for a wait of {wait_s:,g} s."
    if _is_quota(found):
        error = QuotaExhausted(f"{said}. The quota is used up: add credit or use another engine.")
    elif status in (400, 413, 422, 500) and _OVERFLOW.search(found.words):
        error = ContextOverflow(
            f"{said}. Shorten the prompt or lower max_tokens, or use an engine with a longer context."
        )
    elif status in _BUSY:
        error = EngineBusy(f"{said}{asked}", retry_after_s=wait_s)
    elif status in (401, 403):
        error = AccessDenied(
            f"{said}. Check the key, what it may do, and the header that it goes in (key_header)."
        )
    elif status in (400, 422) and _FILTER.search(found.words):
        error = ContentFiltered(said)
    elif status == 404:
        error = EngineRefused(f"{said}. Check base_url and model.")
    elif 400 <= status < 500:
        error = EngineRefused(said)
    elif 300 <= status < 400:
        error = EngineRefused(f"{said}. Redirects are not followed: correct base_url.")
    else:
        error = EngineFailed(f"{said}{asked}")
        error.retry_after_s = wait_s
    return placed(error, engine, "wait", status)


def refused_feature(found: Told, sent: Iterator[str] | list[str]) -> str | None:
    """Which of the optional parts that were `sent` the server does not take, None for another error. A server that
    breaks (500) has to say that it refuses something: what it was about when it broke is no refusal."""
    if found.status not in (400, 404, 422, 500, 501) or _OVERFLOW.search(found.words):
        return None
    if found.status == 500 and not _REFUSING.search(found.words):
        return None
    return next((name for name in sent if FEATURES[name].search(found.words)), None)


def is_of_one_schema(found: Told) -> bool:
    """Whether a refused schema is refused for what stands in it, while others may be taken."""
    return bool(_OF_ONE_SCHEMA.search(found.words)) and not _OF_ALL.search(found.words)


def error_of_exception(
    error: BaseException,
    engine: str,
    where: str,
    key: Key,
    *,
    reading: bool = False,
    whole: bool = False,
    silence: str = SILENCE,
) -> EngineError:
    """The error to raise for an exception of httpx2. `reading`: the answer had begun; `whole`: it was to come as a
    whole. `silence` names what bounds the server's silence."""
    import httpx2

    said = quoted(str(error) or type(error).__name__, key)
    if isinstance(error, httpx2.PoolTimeout):
        busy = EngineBusy(
            f"engine {engine!r}: all connections to {where} are in use; raise `concurrency` or ask less at once"
        )
        return placed(busy, engine, "connect")
    if isinstance(error, httpx2.TimeoutException):
        return _timeout(error, engine, where, reading, whole, silence)
    if isinstance(error, httpx2.ConnectError | httpx2.ProxyError | httpx2.UnsupportedProtocol):
        return placed(Unreachable(_unreachable(error, engine, where, said)), engine, "connect")
    if isinstance(error, httpx2.DecodingError):
        bad = BadReply(
            f"engine {engine!r}: {where} sent an answer that is not packed as its Content-Encoding says: {said}"
        )
        return placed(bad, engine, "parse")
    if reading:
        cut = StreamCut(f"engine {engine!r}: {where} broke off its answer: {said}")
        return placed(cut, engine, "read")
    if isinstance(error, httpx2.WriteError):
        return placed(
            EngineFailed(f"engine {engine!r}: {where} took no request: {said}"), engine, "send"
        )
    lost = EngineFailed(
        f"engine {engine!r}: {where} closed the connection without an answer: {said}"
    )
    return placed(lost, engine, "wait")


def bad_format(error: Wrong, engine: str, where: str, key: Key) -> EngineError:
    """The error to raise where an answer is not in the format that was expected."""
    word = f" ({quoted(error.word, key)!r})" if error.word else ""
    bad = BadReply(f"engine {engine!r}: {where} sent an answer in another format: {error}{word}")
    return placed(bad, engine, "parse")


def placed(error: EngineError, engine: str, phase: Phase, status: int | None = None) -> EngineError:
    """The same error with its facts."""
    error.engine, error.phase, error.status = engine, phase, status
    return error


def _is_quota(found: Told) -> bool:
    """Whether the account is used up. A code for that outranks a wait that is asked for, and such a wait or a code for
    a rate the words: an ordinary rate limit speaks of quota and billing, too."""
    if found.status == 402 or found.status not in (400, 403, 429):
        return found.status == 402
    if _QUOTA_CODE.search(found.words):
        return True
    if found.status == 429 and (found.retry_after_s is not None or _RATE_CODE.search(found.kind)):
        return False
    return bool(_QUOTA_WORDS.search(found.words))


def _timeout(
    error: BaseException, engine: str, where: str, reading: bool, whole: bool, silence: str
) -> EngineError:
    import httpx2

    phase: Phase = "read" if reading else "wait"
    what = "sent nothing more of its answer" if reading else "sent no answer"
    if reading and whole:
        what = "did not send its whole answer"
    if isinstance(error, httpx2.ConnectTimeout):
        phase, what = "connect", "took no connection"
    elif isinstance(error, httpx2.WriteTimeout):
        phase, what = "send", "took no request"
    bound = {
        "connect": "timeouts.connect_s of the engine",
        "send": "timeouts.write_s of the engine",
    }
    late = EngineTimeout(
        f"engine {engine!r}: {where} {what} in time; {bound.get(phase, silence)} bounds that"
    )
    return placed(late, engine, phase)


def _unreachable(error: BaseException, engine: str, where: str, said: str) -> str:
    causes = list(_chain(error))
    if any(isinstance(cause, ssl.SSLError) for cause in causes) or "certificate" in said.lower():
        return f"engine {engine!r}: {where} cannot be trusted, TLS failed: {said}"
    if any(isinstance(cause, socket.gaierror) for cause in causes) or re.search(
        r"name or service|nodename|name resolution|getaddrinfo|no address", said, re.I
    ):
        return f"engine {engine!r}: the host of {where} is not known (DNS): {said}. Check base_url."
    return f"engine {engine!r}: no connection to {where}: {said}. Is the server running?"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


__all__ = [
    "SILENCE",
    "bad_format",
    "error_of",
    "error_of_exception",
    "is_of_one_schema",
    "placed",
    "refused_feature",
]
