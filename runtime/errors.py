"""What can go wrong while a workflow runs. Every class carries its facts as fields.

`run` is the id of the run, `step` the path of the node, "" where there is none.
"""

from __future__ import annotations

import asyncio
import signal
from traceback import walk_tb

from carrara.engines.errors import CarraraError

_LONG_PATH = 240


class RunError(CarraraError):
    """Something went wrong in a run. `run` is its id: `carrara resume` takes it."""

    def __init__(self, message: str, *, run: str = "") -> None:
        super().__init__(message)
        self.run = run


class StepError(RunError):
    """A step failed for good; its cause is `__cause__`.

    `step` is the path of the node that failed first (a step that was only skipped because of it raises the
    same error), `index` its place in the innermost map or None, `attempt` the last attempt, from 1.
    """

    def __init__(
        self,
        message: str,
        *,
        run: str = "",
        step: str = "",
        index: int | None = None,
        attempt: int = 1,
    ) -> None:
        super().__init__(message, run=run)
        self.step = step
        self.index = index
        self.attempt = attempt

    @classmethod
    def of(
        cls, cause: BaseException, *, run: str, step: str, index: int | None, attempt: int
    ) -> StepError:
        """The error for a step that failed with `cause`, which becomes its `__cause__`."""
        tries = "" if attempt == 1 else f" after {attempt} attempts"
        error = cls(
            f"step {shown(step)!r} in run {run} failed{tries}: {reason_of(cause)}",
            run=run,
            step=step,
            index=index,
            attempt=attempt,
        )
        error.__cause__ = cause
        return error


class StepTimeout(CarraraError):
    """One attempt of a step took longer than the step's `timeout_s`. The cause of a StepError."""


class RunCancelled(RunError):
    """The run was cancelled through its RunControl. What had finished is in the journal."""


class RunDeadline(RunCancelled):
    """The run passed its deadline and was cancelled. What had finished is in the journal."""


class HandleError(CarraraError, TypeError):
    """A handle was used like the value it stands for. The message says what to write instead."""


class ScopeError(CarraraError):
    """A step was submitted, or a runtime object asked for, where no workflow is running."""


class JournalError(RunError):
    """The journal could not be opened, read or written; the message names the file and the reason."""


class UnknownRun(JournalError):
    """A run, or the journal that it should be in, is not there, or a name fits several: nothing is broken."""


def is_way_out(error: BaseException) -> bool:
    """Whether what a body raised would end the whole run if it were let through, though nobody asked for that:
    sys.exit(), GeneratorExit, a panic of compiled code. Not Control-C, a cancellation, or that the body is closed
    unfinished because its event loop has ended."""
    if isinstance(error, Exception | asyncio.CancelledError):
        return False
    if isinstance(error, KeyboardInterrupt):
        return not _may_be_a_signal(error)
    return not isinstance(error, GeneratorExit) or _is_loop_running()


def _may_be_a_signal(error: KeyboardInterrupt) -> bool:
    """Whether it may be Control-C, and not the body's own. That is known where the signal is ignored, and where
    `asyncio.run` handles it: it raises from a function of its own."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.SIG_IGN:
        return False
    handled = getattr(getattr(handler, "func", None), "__func__", None)
    if handled is None or handled is not getattr(asyncio.Runner, "_on_sigint", None):
        return True
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    return not frames or frames[-1].f_code is getattr(handled, "__code__", None)


def exited(end: BaseException) -> RuntimeError:
    """What a body's `sys.exit()` becomes, and its like (`is_way_out`): a failure of this step alone. The place in the
    body is kept."""
    said = f"{reason_of(end)} was raised"
    if isinstance(end, SystemExit):
        said = f"sys.exit({'' if end.code is None else repr(end.code)}) was called"
    found = RuntimeError(said)
    found.__cause__ = end
    return found.with_traceback(end.__traceback__)


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def shown(path: str) -> str:
    """The path of a step, that of a deep recursion without its middle."""
    return path if len(path) <= _LONG_PATH else f"{path[:60]}…{path[-60:]}"


def writable(text: str) -> str:
    """The text with lone surrogates (halves of characters, bytes of a file's name) as `\\udce9`."""
    return text.encode(errors="backslashreplace").decode()


def reason_of(error: BaseException) -> str:
    """The error in one line: "ValueError: not a number". Text that can be written down, whatever the error quotes."""
    return writable(f"{type(error).__name__}: {error}".rstrip(": "))
