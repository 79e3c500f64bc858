"""What goes out: JSON that any client can read, and errors as the answers and events of the OpenAI wire format."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

from carrara.engines.errors import (
    AccessDenied,
    CarraraError,
    ContentFiltered,
    ContextOverflow,
    EngineBusy,
    EngineError,
    EngineFailed,
    EngineRefused,
    QuotaExhausted,
)
from carrara.engines.serving.bodies import fault
from carrara.engines.surrogates import paired

_log = logging.getLogger(__name__)


class Json(JSONResponse):
    def render(self, content: Any) -> bytes:
        return written(content)


def written(found: Mapping[str, Any]) -> bytes:
    """As JSON in UTF-8. Halves of a character that stand together become the character, any other is U+FFFD."""
    return paired(json.dumps(found, ensure_ascii=False, separators=(",", ":"))).encode()


def event(found: Mapping[str, Any]) -> bytes:
    """One event of a stream."""
    return b"data: " + written(found) + b"\n\n"


def error_answer(error: Exception) -> Response:
    """The answer to a request that an engine did not answer. A wait is told in whole seconds, as HTTP has it, and in
    milliseconds beside them."""
    status, told = _told(error)
    headers = {}
    if isinstance(error, EngineError) and error.retry_after_s is not None:
        headers["Retry-After"] = f"{math.ceil(error.retry_after_s)}"
        headers["retry-after-ms"] = f"{math.ceil(1000 * error.retry_after_s)}"
    return Json(told, status, headers)


def error_event(error: Exception) -> bytes:
    """The last event of a stream that breaks off; its code is the HTTP status, where the error has no other."""
    status, told = _told(error)
    told["error"]["code"] = told["error"]["code"] or status
    return event(told)


def _told(error: Exception) -> tuple[int, dict[str, Any]]:
    match error:
        case EngineBusy() if (error.status or 0) >= 500:
            return 503, fault(str(error), "server_error")
        case EngineBusy():
            return 429, fault(str(error), "rate_limit_error")
        case QuotaExhausted():
            return 429, fault(str(error), "insufficient_quota", "insufficient_quota")
        case ContextOverflow():
            return 400, fault(str(error), "invalid_request_error", "context_length_exceeded")
        case ContentFiltered():
            return 400, fault(str(error), "invalid_request_error", "content_filter")
        case AccessDenied():
            return 403, fault(str(error), "permission_error")
        case EngineRefused():
            return 400, fault(str(error), "invalid_request_error")
        case EngineFailed() if error.is_unreachable:
            return 503, fault(str(error), "server_error")
        case CarraraError():
            return 500, fault(str(error), "server_error")
        case _:
            _log.error("a request failed unexpectedly", exc_info=error)
            return 500, fault(f"unexpected {type(error).__name__}: {error}", "server_error")


__all__ = ["Json", "error_answer", "error_event", "event", "written"]
