"""How a command ends: coroutines run to their end or to Ctrl-C, errors become a message and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from typer import Exit

from carrara.engines.errors import CarraraError, LoadingError

FAILED, USAGE, INTERRUPTED = 1, 2, 130
TRACEBACK = "CARRARA_TRACEBACK"
"""Set this variable to see where in the code an error comes from."""

T = TypeVar("T")


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run `work`; on Ctrl-C it is cancelled, cleans up, and the process exits with 130.

    What blocks in a thread by then is not waited for.
    """
    import asyncio

    from carrara.runtime.workers import DaemonThreads

    async def main() -> T:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(DaemonThreads("carrara"))

        def stir() -> None:
            # A signal that reaches another thread than this one does not end its wait for the next event.
            loop.call_later(0.2, stir)

        stir()
        return await work

    try:
        return asyncio.run(main())
    except KeyboardInterrupt:
        note("interrupted")
        sys.exit(INTERRUPTED)


def code_of(command: Callable[[], Any]) -> int:
    """The exit code of a command; whatever it raises becomes a message on standard error."""
    try:
        command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILED if end.code else 0
    except KeyboardInterrupt:
        note("interrupted")
        return INTERRUPTED
    except Exception as error:
        return report_error(error)
    return 0


def leave(code: int) -> NoReturn:
    """End the process with `code`, or with 1 where the results could not be written.

    After Ctrl-C it does not wait for the bodies of steps that go on in their threads.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        if code == 0 and not isinstance(error, BrokenPipeError):  # else told, or nobody is there
            note(f"error: cannot write the result: {error.strerror}")
        os._exit(code or FAILED)  # the interpreter would flush, and fail, again
    if code == INTERRUPTED:
        os._exit(code)
    sys.exit(code)


def give(text: str) -> None:
    """Print a result.

    Raises:
        OutputError: standard output cannot be written, as on a full disk, or its encoding lacks a character.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except (OSError, UnicodeEncodeError) as error:
        from carrara.workflows.places import OutputError

        raise OutputError(f"cannot write the result: {_why(error)}") from error


def _why(error: OSError | UnicodeEncodeError) -> str:
    if isinstance(error, OSError):
        return str(error.strerror)
    lacking = ascii(error.object[error.start : error.start + 1])
    return f"standard output takes {error.encoding}, which has no {lacking}"


def note(text: str) -> None:
    """One line on standard error, if anybody still reads it."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def usage(text: str) -> Exit:
    """What to raise for a wrong call that typer cannot see."""
    note(f"error: {text}")
    return Exit(USAGE)


def report_error(error: Exception) -> int:
    """Print the error; the exit code is 2 where the call or a file is wrong, else 1."""
    if os.environ.get(TRACEBACK):
        import traceback

        traceback.print_exception(error)
    note(f"error: {_told(error)}")
    return USAGE if is_usage(error) else FAILED


def is_usage(error: Exception) -> bool:
    from carrara.runtime.cassette import CassetteError
    from carrara.runtime.errors import UnknownRun
    from carrara.workflows.errors import DefinitionError, InputError, PolicyRefused
    from carrara.workflows.places import FileError, PlaceError
    from carrara.workflows.records import SourceError

    of_files = FileError | SourceError | PlaceError | CassetteError | LoadingError | UnknownRun
    return isinstance(error, DefinitionError | InputError | PolicyRefused | of_files)


def _told(error: Exception) -> str:
    """An error of ours as it is; one that a workflow's own code raised with its place."""
    if not isinstance(error, CarraraError):
        notes = "".join(f" ({found})" for found in getattr(error, "__notes__", ()))
        return f"{_place(error)}: {type(error).__name__}: {error}{notes}"
    cause = error.__cause__
    if cause is None or isinstance(cause, CarraraError | OSError) or not _is_users(cause):
        return str(error)
    return f"{error} (raised in {_place(cause)})"


def _place(error: BaseException) -> str:
    """file:line of the innermost frame that is no library's, else of the innermost."""
    from carrara.workflows.source import shown_path

    frames = _frames(error)
    own = [frame for frame in frames if not _is_library(frame[0])] or frames
    return f"{shown_path(own[-1][0])}:{own[-1][1]}" if own else "somewhere"


def _is_users(error: BaseException) -> bool:
    return any(not _is_library(file) for file, _ in _frames(error))


def _frames(error: BaseException) -> list[tuple[str, int]]:
    from traceback import walk_tb

    return [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]


def _is_library(file: str) -> bool:
    import sysconfig

    package = str(Path(__file__).resolve().parents[1])
    paths = sysconfig.get_paths()
    homes = (package, paths["stdlib"], paths["purelib"], paths["platlib"], "<")
    return file.startswith(homes)
