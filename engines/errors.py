"""The errors of this project share one base; those an engine raises say whether trying again can help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from carrara.engines.request import Usage


class CarraraError(Exception):
    """Base of every error raised on purpose. The message says what happened, where, and what to do."""


class LoadingError(CarraraError):
    """Weights, a tokenizer or an adapter could not be loaded; the message names file and tensor."""


Phase = Literal["", "connect", "send", "wait", "read", "parse"]
"""Where a call to a server went wrong: on the way to it, before its first byte, in its answer; "" elsewhere."""


class EngineError(CarraraError):
    """An engine gave no completion. `engine` is its name.

    For an engine behind a network `phase` says where it went wrong and `status` what HTTP status came, if any. `text`
    is what had come of the answer (of one that comes whole its body, broken off or unreadable), and `usage` what the
    server told until then that the call had used. `retry_after_s` is the wait that the engine asked for, None when it
    named none.
    """

    phase: Phase = ""
    status: int | None = None
    text: str = ""
    usage: Usage | None = None
    retry_after_s: float | None = None

    def __init__(self, message: str, *, engine: str = "") -> None:
        super().__init__(message)
        self.engine = engine

    @property
    def has_worked(self) -> bool:
        """Whether tokens are likely to have been used: the answer had begun, or was waited for."""
        if self.phase in ("connect", "send"):
            return False
        return self.phase in ("read", "parse") or bool(self.text) or isinstance(self, EngineTimeout)


class EngineBusy(EngineError):
    """The engine has no room now; the same call may succeed later."""

    def __init__(
        self, message: str, *, engine: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, engine=engine)
        self.retry_after_s = retry_after_s


class EngineRefused(EngineError):
    """The request can never succeed on this engine: too long, or a contract it cannot hold."""


class EngineFailed(EngineError):
    """The engine broke while it worked on the request; a retry may or may not help."""

    @property
    def is_unreachable(self) -> bool:
        """Whether no connection came about: then the request was never sent."""
        return self.phase == "connect"

    @property
    def is_server_fault(self) -> bool:
        """Whether a server told of a fault of its own, or dropped the connection before it answered."""
        return (self.status or 0) >= 500 or self.phase in ("send", "wait")


class QuotaExhausted(EngineRefused):
    """The account has no credit left, or its quota for a long time is used up: waiting a moment does not help."""


class ContextOverflow(EngineRefused):
    """Prompt and answer together are longer than the model's context."""


class ContentFiltered(EngineRefused):
    """The provider's content filter refused the prompt or the answer."""


class AccessDenied(EngineRefused):
    """The key is missing, wrong, or not allowed to do this."""


class Unreachable(EngineFailed):
    """No connection came about: the name is unknown, nothing listens, the certificate is refused."""

    @property
    def is_unreachable(self) -> bool:
        return True


class EngineDown(EngineFailed):
    """The engine has given no answer for so long, or none at all, that it is taken to be down, and no other could be
    asked. It says nothing of the request: the same call works once the engine is back."""


class EngineTimeout(EngineFailed):
    """The server took longer than this phase may take."""

    @property
    def is_server_fault(self) -> bool:
        return False


class StreamCut(EngineFailed):
    """The answer ended before its end. `text` is what had come."""

    def __init__(self, message: str, *, engine: str = "", text: str = "") -> None:
        super().__init__(message, engine=engine)
        self.text = text


class BadReply(EngineFailed):
    """What came is no answer in the server's own format: wrong content type, broken JSON, missing parts."""


class ContractError(CarraraError):
    """A text does not hold to its output contract. `text` is the raw text, kept for repair and reports.

    `path` is the JSON pointer of the failing part, "" for the whole.
    """

    def __init__(self, message: str, *, text: str, path: str = "", value: Any = None) -> None:
        super().__init__(message)
        self.text = text
        self.path = path
        self.value = value
