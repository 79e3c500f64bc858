"""From what goes wrong at a server or on the way to it to an error of ours, with the facts.

Every status, error body and exception of httpx2 becomes one of `carrara.engines.errors` here and nowhere else. What a
server says is quoted shortly, without keys.
"""

from __future__ import annotations

import json
import math
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

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

SILENCE = "timeouts.read_s of the engine"
"""What bounds the silence of a server, unless a caller has a bound of its own."""

_BUSY = (408, 409, 425, 429, 502, 503, 504, 529)
_QUOTED = 300
_LONGEST_WAIT_S = 24 * 3600.0

_QUOTA = re.compile(
    r"insufficient_quota|exceeded your current quota|credit balance|billing|out of credits|PerDay|payment",
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
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")

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
_OF_ALL = re.compile(r"not (yet )?supported (for|with|by|on)", re.I)


@dataclass(frozen=True, slots=True)
class Told:
    """An error as a server told it: status, its own words, and the wait that it asked for."""

    status: int
    message: str
    kind: str = ""
    retry_after_s: float | None = None

    @property
    def words(self) -> str:
        return f"{self.kind} {self.message}"


def told(status: int, headers: Mapping[str, str], body: str, key: Key) -> Told:
    """Read an error answer of any of the formats, or a page of HTML."""
    message, kind, wait_s = body.strip(), "", wait_of(headers)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, list) and found:  # Gemini streams errors as a list
        found = found[0]
    if isinstance(found, Mapping):
        message, kind, asked_s = _error_in(found)
        wait_s = asked_s if wait_s is None else wait_s
    elif message.startswith("<"):
        message = " ".join(re.sub(r"<[^>]*>", " ", message).split())
    return Told(status, quoted(message, key) or "no further word", key.scrub(kind), wait_s)


def error_of(found: Told, engine: str, where: str) -> EngineError:
    """The error to raise for what a server told. `where` is its URL without secrets."""
    said = f"engine {engine!r}: {where} answered {found.status}: {found.message}"
    error: EngineError
    status = found.status
    if status == 402 or (status in (400, 403, 429) and _QUOTA.search(found.words)):
        error = QuotaExhausted(f"{said}. The quota is used up: add credit or use another engine.")
    elif status in (400, 413, 422, 500) and _OVERFLOW.search(found.words):
        error = ContextOverflow(
            f"{said}. Shorten the prompt or lower max_tokens, or use an engine with a longer context."
        )
    elif status in _BUSY:
        wait_s = found.retry_after_s
        asked = "" if wait_s is None else f" It asks for a wait of {wait_s:,.0f} s."
        error = EngineBusy(f"{said}.{asked}" if asked else said, retry_after_s=wait_s)
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
        error = EngineFailed(said)
    return placed(error, engine, "wait", status)


def refused_feature(found: Told, sent: Iterator[str] | list[str]) -> str | None:
    """Which of the optional parts that were `sent` the server does not take, None for another error."""
    if found.status not in (400, 404, 422, 500, 501) or _OVERFLOW.search(found.words):
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
    text: str = "",
    reading: bool = False,
    silence: str = SILENCE,
) -> EngineError:
    """The error to raise for an exception of httpx2. `reading`: the answer had begun; `text` had come of it. `silence`
    names what bounds the server's silence."""
    import httpx2

    said = quoted(str(error) or type(error).__name__, key)
    if isinstance(error, httpx2.PoolTimeout):
        busy = EngineBusy(
            f"engine {engine!r}: all connections to {where} are in use; raise `concurrency` or ask less at once"
        )
        return placed(busy, engine, "connect")
    if isinstance(error, httpx2.TimeoutException):
        return _timeout(error, engine, where, reading, silence)
    if isinstance(error, httpx2.ConnectError | httpx2.ProxyError | httpx2.UnsupportedProtocol):
        return placed(Unreachable(_unreachable(error, engine, where, said)), engine, "connect")
    if isinstance(error, httpx2.SSEError | httpx2.DecodingError):
        bad = BadReply(f"engine {engine!r}: {where} sent no stream of events: {said}")
        return placed(bad, engine, "parse")
    if reading:
        cut = StreamCut(f"engine {engine!r}: {where} broke off its answer: {said}", text=text)
        return placed(cut, engine, "read")
    if isinstance(error, httpx2.WriteError):
        return placed(
            EngineFailed(f"engine {engine!r}: {where} took no request: {said}"), engine, "send"
        )
    lost = EngineFailed(
        f"engine {engine!r}: {where} closed the connection without an answer: {said}"
    )
    return placed(lost, engine, "wait")


def placed(error: EngineError, engine: str, phase: Phase, status: int | None = None) -> EngineError:
    """The same error with its facts."""
    error.engine, error.phase, error.status = engine, phase, status
    return error


def wait_of(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by the headers of an answer: `retry-after-ms`, `Retry-After` as a number or a date, or the
    reset times of rate limits as OpenAI writes them ("6m0s")."""
    if (ms := _number(headers.get("retry-after-ms"))) is not None:
        return _bounded(ms / 1000)
    after = headers.get("retry-after")
    if after is not None:
        seconds = _number(after)
        return _bounded(seconds) if seconds is not None else _until(after)
    if headers.get("x-ratelimit-remaining-requests") == "0":
        return duration(headers.get("x-ratelimit-reset-requests", ""))
    if headers.get("x-ratelimit-remaining-tokens") == "0":
        return duration(headers.get("x-ratelimit-reset-tokens", ""))
    return None


def duration(text: str) -> float | None:
    """Seconds of "34s", "1m30s", "120ms", "1.5s"; None for anything else."""
    found = _DURATION.fullmatch(text.strip())
    if not found or not any(found.groups()):
        return None
    hours, minutes, seconds, ms = (float(part or 0) for part in found.groups())
    return _bounded(3600 * hours + 60 * minutes + seconds + ms / 1000)


def quoted(message: str, key: Key) -> str:
    """A server's words, on one line, bounded, without the key."""
    flat = " ".join(key.scrub(message).split())
    return flat if len(flat) <= _QUOTED else f"{flat[:_QUOTED]}…"


def _error_in(found: Mapping[str, Any]) -> tuple[str, str, float | None]:
    inner = found.get("error", found)
    if isinstance(inner, str):
        return inner, "", None
    if not isinstance(inner, Mapping):
        return json.dumps(found)[:_QUOTED], "", None
    message = inner.get("message") or inner.get("detail") or found.get("detail")
    text = message if isinstance(message, str) else json.dumps(message or inner)
    kinds = [inner.get(part) for part in ("type", "code", "status", "param")]
    wait_s = None
    for detail in inner.get("details") or ():
        if isinstance(detail, Mapping):
            if isinstance(delay := detail.get("retryDelay"), str):
                wait_s = duration(delay)
            kinds += [
                v.get("quotaId") for v in detail.get("violations") or () if isinstance(v, Mapping)
            ]
    return text, " ".join(str(kind) for kind in kinds if kind), wait_s


def _timeout(
    error: BaseException, engine: str, where: str, reading: bool, silence: str
) -> EngineError:
    import httpx2

    phase: Phase = "read" if reading else "wait"
    what = "sent nothing more of its answer" if reading else "sent no answer"
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


def _until(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return _bounded((moment - datetime.now(UTC)).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), _LONGEST_WAIT_S)


__all__ = [
    "SILENCE",
    "Told",
    "duration",
    "error_of",
    "error_of_exception",
    "is_of_one_schema",
    "placed",
    "quoted",
    "refused_feature",
    "told",
    "wait_of",
]
