"""The errors of this project share one base; those an engine raises say whether trying again can help."""

from typing import Any


class CarraraError(Exception):
    """Base of every error raised on purpose. The message says what happened, where, and what to do."""


class LoadingError(CarraraError):
    """Weights, a tokenizer or an adapter could not be loaded; the message names file and tensor."""


class EngineError(CarraraError):
    """An engine gave no completion. `engine` is its name."""

    def __init__(self, message: str, *, engine: str = "") -> None:
        super().__init__(message)
        self.engine = engine


class EngineBusy(EngineError):
    """The engine has no room now; the same call may succeed later.

    `retry_after_s` is the wait that the engine asked for, None when it named none.
    """

    def __init__(
        self, message: str, *, engine: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, engine=engine)
        self.retry_after_s = retry_after_s


class EngineRefused(EngineError):
    """The request can never succeed on this engine: too long, or a contract it cannot hold."""


class EngineFailed(EngineError):
    """The engine broke while it worked on the request; a retry may or may not help."""


class ContractError(CarraraError):
    """A text does not hold to its output contract. `text` is the raw text, kept for repair and reports.

    `path` is the JSON pointer of the failing part, "" for the whole.
    """

    def __init__(self, message: str, *, text: str, path: str = "", value: Any = None) -> None:
        super().__init__(message)
        self.text = text
        self.path = path
        self.value = value
