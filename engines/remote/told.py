"""An error as a server told it: with an error status, or inside an answer that began with 200.

All formats are read here, odd ones too: whatever a server sends, the outcome is a `Told`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from carrara.engines.remote.keys import Key

_QUOTED = 300
_LONGEST_WAIT_S = 24 * 3600.0
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")

_NAMED: Mapping[int, str] = {
    400: "invalid_request_error badrequesterror invalid_argument context_length_exceeded content_filter",
    401: "authentication_error unauthenticated invalid_api_key",
    402: "billing_error",
    403: "permission_error permission_denied",
    404: "not_found_error notfounderror not_found model_not_found",
    413: "request_too_large",
    429: "rate_limit_error rate_limit_exceeded requests tokens insufficient_quota resource_exhausted"
    " too_many_requests",
    503: "unavailable service_unavailable overloaded",
    504: "timeout_error deadline_exceeded",
    529: "overloaded_error",
}
_STATUSES = {name: status for status, names in _NAMED.items() for name in names.split()}
"""The status that belongs to a service's own name for an error."""


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


def told(status: int | None, headers: Mapping[str, str], body: str, key: Key) -> Told:
    """Read an error of any of the formats, or a page of HTML. `status` None: that which the body names, else 500."""
    message, kind, wait_s = body.strip(), "", wait_of(headers)
    try:
        found = _unlisted(json.loads(body))
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, Mapping):
        message, kind, asked_s = _error_in(found)
        wait_s = asked_s if wait_s is None else wait_s
        status = _status_in(found) if status is None else status
    elif message.startswith("<"):
        message = " ".join(re.sub(r"<[^<>]*>", " ", message).split())
    said = quoted(message, key) or "no further word"
    return Told(500 if status is None else status, said, key.scrub(kind), wait_s)


def tells_error(data: Any) -> bool:
    """Whether JSON that came with status 200 is an error and no answer. A field "error" of null is none."""
    found = _unlisted(data)
    if not isinstance(found, Mapping):
        return False
    return _error_part(found) is not None or "error" in (found.get("object"), found.get("type"))


def wait_of(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by the headers of an answer: `retry-after-ms`, `Retry-After` as a number or a date, or the
    reset times of rate limits as OpenAI writes them ("6m0s"). One that is over already tells no wait."""
    if (ms := _number(headers.get("retry-after-ms"))) is not None:
        return _bounded(ms / 1000)
    after = headers.get("retry-after")
    if after is not None:
        seconds = _number(after)
        return _bounded(_until(after) if seconds is None else seconds)
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
    """A server's words, on one line, bounded, without the key, and without halves of surrogate pairs.

    Only as much of a long message is looked at as is shown, and so much more that a key at the border of that is not
    shown either."""
    beyond = 3 * len(key.reveal())  # a mark is at most three characters, in place of one at least
    looked_at, flat = 0, ""
    while looked_at < len(message) and len(flat) < _QUOTED + beyond:
        looked_at = 4 * max(looked_at, _QUOTED + beyond)
        flat = " ".join(key.scrub(message[:looked_at]).split())
    flat = flat.encode("utf-8", "replace").decode("utf-8")
    return flat if len(flat) <= _QUOTED else f"{flat[:_QUOTED]}…"


def _error_in(found: Mapping[str, Any]) -> tuple[str, str, float | None]:
    """The message, the kinds in one text, and the wait in seconds."""
    inner = _error_part(found)
    if isinstance(inner, str):
        return inner, "", None
    if not isinstance(inner, Mapping):
        inner = found
    message = inner.get("message") or inner.get("detail") or found.get("detail")
    text = message if isinstance(message, str) else json.dumps(message or inner)
    kinds = [inner.get(part) for part in ("type", "code", "status", "param")]
    wait_s = None
    for detail in _mappings(inner.get("details")):
        if isinstance(delay := detail.get("retryDelay"), str):
            wait_s = duration(delay)
        kinds += [violation.get("quotaId") for violation in _mappings(detail.get("violations"))]
    return text, " ".join(str(kind) for kind in kinds if kind), wait_s


def _error_part(found: Mapping[str, Any]) -> Any:
    """What stands under "error", in the body or in its first choice; None where nothing does."""
    places = (found, *tuple(_mappings(found.get("choices")))[:1])
    return next((place["error"] for place in places if place.get("error")), None)


def _status_in(found: Mapping[str, Any]) -> int:
    """The status that an error names: as a number, as text, or by a service's name for it."""
    inner = _error_part(found)
    for place in (inner, found):
        for part in ("code", "status", "type"):
            named = place.get(part) if isinstance(place, Mapping) else None
            status = _STATUSES.get(str(named).lower(), named)
            if isinstance(status, str) and re.fullmatch(r"[45]\d\d", status):
                return int(status)
            if isinstance(status, int) and 400 <= status < 600:
                return status
    return 500


def _unlisted(data: Any) -> Any:
    """Gemini streams errors as a list of one."""
    return data[0] if isinstance(data, list) and data else data


def _mappings(found: Any) -> Iterable[Mapping[str, Any]]:
    return (one for one in found if isinstance(one, Mapping)) if isinstance(found, list) else ()


def _until(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _bounded(seconds: float | None) -> float | None:
    return None if seconds is None or seconds < 0 else min(seconds, _LONGEST_WAIT_S)


__all__ = ["Told", "duration", "quoted", "tells_error", "told", "wait_of"]
