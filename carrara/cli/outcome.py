"""How a command ends: coroutines run to their end or to Ctrl-C, errors become a message and an exit code."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from carrara.engines.errors import CarraraError, LoadingError

FAILED, USAGE, INTERRUPTED = 1, 2, 130

T = TypeVar("T")


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run `work`; on Ctrl-C it is cancelled, cleans up, and the process exits with 130."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        note("interrupted: what had finished is kept. `carrara resume last` goes on from there.")
        sys.exit(INTERRUPTED)


def note(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)


def report_error(error: CarraraError) -> int:
    """Print the error; the exit code is 2 where the call or a file is wrong, else 1."""
    note(f"error: {error}")
    return USAGE if is_usage(error) else FAILED


def is_usage(error: CarraraError) -> bool:
    from carrara.workflows.errors import DefinitionError
    from carrara.workflows.records import SourceError

    return isinstance(error, DefinitionError | SourceError | LoadingError)
