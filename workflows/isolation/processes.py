"""The processes that isolated steps run in: started when one is needed, kept for the next call, killed where a call was
given up. Each is the first of a process group: whatever it has started is killed with it."""

from __future__ import annotations

import asyncio
import builtins
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from functools import update_wrapper
from types import TracebackType
from typing import Any, Self

from carrara.engines.errors import CarraraError
from carrara.runtime.codec import decode, encode
from carrara.runtime.errors import ScopeError, StepTimeout
from carrara.runtime.run import context
from carrara.runtime.step import StepOptions
from carrara.workflows.isolation.place import Place, place_of
from carrara.workflows.isolation.wire import LENGTH_BYTES, length, packed, text_of

MOST = 4 * (os.cpu_count() or 1)
"""Processes at once: more than work at a time, since some may wait for something. Further calls wait their turn."""

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from carrara.workflows.isolation.worker import main; main(int(sys.argv[2]))"
)


class StepCrashed(CarraraError):
    """The process of an isolated step ended in the middle of a call: a segmentation fault, `os._exit`, or the system
    killed it for its memory. The cause of a StepError."""


class StepRaised(CarraraError):
    """An isolated step raised an error of a class of its own."""


class Isolated:
    """A function that is called in another process. Async: cancelled, it kills that process.

    `timeout_s` bounds the call itself: not the wait for a process, nor its start. Arguments and results go there and
    back as the journal would keep them.
    """

    def __init__(
        self, function: Callable[..., Any], timeout_s: float | None = None, pipeline: str = ""
    ) -> None:
        """Raises DefinitionError where another process cannot find the function."""
        self._place = place_of(function, pipeline)
        self._timeout_s = timeout_s
        update_wrapper(self, function)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Raises StepCrashed where the process died, StepTimeout, and whatever the function raises: errors of Python's
        own classes as they are, others as StepRaised."""
        text = encode([list(args), kwargs])
        processes = _of_this_run()
        if processes is not None:
            return await processes.call(self._place, text, self._timeout_s)
        async with Processes() as own:
            return await own.call(self._place, text, self._timeout_s)


def isolated(
    function: Callable[..., Any], options: StepOptions, pipeline: str = ""
) -> tuple[Callable[..., Any], StepOptions]:
    """The function as one of another process, which sees to the timeout itself, and the options that are left.

    Raises:
        DefinitionError: another process cannot find the function.
    """
    made = Isolated(function, options.timeout_s, pipeline)
    return made, replace(options, timeout_s=None)


class Processes:
    """Idle processes by the function that they have loaded; all are ended where the block is left."""

    def __init__(self) -> None:
        self._idle: dict[Place, list[_Process]] = {}
        self._all: set[_Process] = set()
        self._killed: list[_Process] = []
        self._room = asyncio.Semaphore(MOST)

    async def call(self, place: Place, text: str, timeout_s: float | None = None) -> Any:
        async with self._room:
            idle = self._idle.setdefault(place, [])
            process = idle.pop() if idle else await self._started(place)
            answer = await self._answer(process, place, text, timeout_s)
            if answer.get("broken"):
                self._give_up(process)
            else:
                idle.append(process)
        if "error" in answer:
            raise _raised(answer["error"], answer["message"])
        return decode(answer["value"])

    async def _started(self, place: Place) -> _Process:
        process = await _Process.start()
        self._all.add(process)
        answer = await self._answer(process, place, json.dumps(asdict(place)), None)
        if "error" in answer:
            self._give_up(process)
            raise StepRaised(
                f"{place.name} cannot be loaded: {answer['error']}: {answer['message']}"
            )
        return process

    async def _answer(
        self, process: _Process, place: Place, text: str, timeout_s: float | None
    ) -> dict[str, Any]:
        """What the process answers; one that does not is killed."""
        try:
            async with asyncio.timeout(timeout_s):
                return await process.ask(text)
        except TimeoutError as error:
            self._give_up(process)
            raise StepTimeout(
                f"step {place.name!r} took longer than its timeout_s of {timeout_s:g} s; its process was ended"
            ) from error
        except (EOFError, OSError) as error:
            self._give_up(process)
            raise StepCrashed(await process.epitaph(place.name)) from error
        except BaseException:
            self._give_up(process)
            raise

    def _give_up(self, process: _Process) -> None:
        process.kill()
        self._all.discard(process)
        self._killed = [known for known in self._killed if known.is_alive] + [process]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._all:
            process.kill()
        for process in (*self._all, *self._killed):
            await process.wait()


class _Process:
    """One of them, and the line to it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls) -> Self:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                _START,
                json.dumps(sys.path),
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        return cls(process, *await asyncio.open_connection(sock=ours))

    async def ask(self, text: str) -> dict[str, Any]:
        """Raises EOFError or OSError where it ended."""
        self._writer.write(packed(text))
        await self._writer.drain()
        head = await self._reader.readexactly(LENGTH_BYTES)
        answer: dict[str, Any] = json.loads(text_of(await self._reader.readexactly(length(head))))
        return answer

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    async def wait(self) -> int:
        """Until it has ended; the exit code, negative for a signal."""
        return await self._process.wait()

    def kill(self) -> None:
        """End it and all that it started, wherever it is: a process that has died may have left some behind."""
        self._writer.close()
        # Not by the process object, which would take the exit code of one that has just died away from the loop.
        with suppress(ProcessLookupError, PermissionError):  # macOS: nobody is left but a dead one
            os.killpg(self._process.pid, signal.SIGKILL)

    async def epitaph(self, name: str) -> str:
        code = await self.wait()
        if code >= 0:
            return f"the process of {name!r} ended with exit code {code} in the middle of a call"
        found = signal.Signals(-code).name
        hint = ", perhaps for its memory" if found == "SIGKILL" else ""
        return f"the process of {name!r} was ended by {found}{hint}"


def _of_this_run() -> Processes | None:
    try:
        found = context().resources.get("processes")
    except ScopeError:
        return None
    return found if isinstance(found, Processes) else None


def _raised(kind: str, message: str) -> Exception:
    known = getattr(builtins, kind, None)
    if isinstance(known, type) and issubclass(known, Exception):
        try:
            return known(message)
        except TypeError:  # UnicodeDecodeError takes more
            pass
    return StepRaised(f"{kind}: {message}")


__all__ = ["Isolated", "Processes", "StepCrashed", "StepRaised", "isolated"]
