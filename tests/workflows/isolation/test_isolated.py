"""A step in a process of its own: what it gives, what its death costs."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import carrara
from carrara.runtime.errors import StepError, StepTimeout
from carrara.runtime.journal.lease import born
from carrara.workflows.errors import DefinitionError
from carrara.workflows.isolation.processes import Isolated, Processes, StepCrashed, StepRaised

PARTS = Path(__file__).with_name("parts.py")


@pytest.fixture(scope="module")
def parts() -> ModuleType:
    spec = importlib.util.spec_from_file_location("isolated_parts", PARTS)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["isolated_parts"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_values_keep_their_types_and_the_process_serves_the_next_call(parts: Any) -> None:
    behave, swap = (carrara.step(isolated=True)(each) for each in (parts.behave, parts.swap))

    @carrara.workflow
    async def twice(first: str, second: str) -> Any:
        pair = await behave(first)
        return await swap(pair), await behave(second)

    first, second = carrara.run_sync(twice, "ab", "cd").value
    assert (first.text, second.text) == ("ba", "cd")
    assert isinstance(first, parts.Pair)
    assert first.process == second.process != os.getpid()


@pytest.mark.parametrize(
    ("what", "kind", "told"),
    [
        ("exit", StepCrashed, "ended with exit code 3"),
        ("fault", StepCrashed, "was ended by SIGSEGV"),
        ("hang", StepTimeout, "longer than its timeout_s of 0.05 s; its process was ended"),
        ("raise", ValueError, "no such thing"),
        ("own", StepRaised, "OwnError: mine"),
        ("leave", StepRaised, "SystemExit: enough"),
    ],
)
def test_what_goes_wrong_there_is_an_error_here(
    parts: Any, what: str, kind: type[Exception], told: str
) -> None:
    timeout_s = 0.05 if what == "hang" else None
    behave = carrara.step(isolated=True, timeout_s=timeout_s)(parts.behave)

    @carrara.workflow
    async def once(what: str) -> Any:
        return await behave(what)

    with pytest.raises(StepError, match=told) as caught:
        carrara.run_sync(once, what)
    assert type(caught.value.__cause__) is kind


def test_a_call_after_a_crash_has_a_new_process_and_none_is_left(parts: Any) -> None:
    async def main() -> list[int]:
        call = Isolated(parts.behave)
        async with Processes() as processes:
            place = call._place
            found = [await processes.call(place, '[["a"], {}]')]
            with pytest.raises(StepCrashed):
                await processes.call(place, '[["exit"], {}]')
            found.append(await processes.call(place, '[["b"], {}]'))
        return [pair.process for pair in found]

    before, after = asyncio.run(main())
    assert before != after
    for process in (before, after):
        with pytest.raises(ProcessLookupError):
            os.kill(process, signal.SIGCONT)


@pytest.mark.parametrize("what", ["child", "child and exit", "child and hang"])
def test_what_a_call_has_started_ends_with_its_process(
    parts: Any, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def main() -> int:
        place = Isolated(parts.behave)._place
        async with Processes() as processes:
            call = asyncio.create_task(processes.call(place, json.dumps([[what], {}])))
            if what == "child":
                return int((await call).process)
            if what == "child and exit":
                with pytest.raises(StepCrashed):
                    await call
            child = await asyncio.to_thread(_written, tmp_path / "child")
            call.cancel()
        return child

    assert _is_gone(asyncio.run(main()))


def test_a_process_ends_with_the_one_that_started_it_and_takes_its_children_along(
    parts: Any, tmp_path: Path
) -> None:
    program = tmp_path / "starts.py"
    program.write_text(
        "import asyncio, json, os, signal\n"
        "from carrara.workflows.isolation.place import Place\n"
        "from carrara.workflows.isolation.processes import Processes\n"
        "async def main():\n"
        "    async with Processes() as processes:\n"
        f"        place = Place(**json.loads({json.dumps(asdict(Isolated(parts.behave)._place))!r}))\n"
        "        place.load()\n"
        "        pair = await processes.call(place, json.dumps([['child'], {}]))\n"
        "        print(pair.process, flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    path = os.pathsep.join([str(PARTS.parents[3]), *sys.path])
    found = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert found.returncode == -signal.SIGKILL, found.stderr
    assert _is_gone(int(found.stdout))


def _written(path: Path) -> int:
    """The number in a file that another process is about to write."""
    while not path.exists() or not path.read_text():
        time.sleep(0.01)
    return int(path.read_text())


def _is_gone(process: int) -> bool:
    """Whether it has ended, or does so soon: a signal is not waited for."""
    for _ in range(1000):
        if not born(process):
            return True
        time.sleep(0.01)
    return False


def test_a_process_in_which_a_wrong_file_was_closed_serves_no_other_call(parts: Any) -> None:
    async def main() -> list[int]:
        place = Isolated(parts.behave)._place
        async with Processes() as processes:
            before = await processes.call(place, '[["a"], {}]')
            with pytest.raises(OSError, match="Bad file descriptor"):
                await processes.call(place, '[["closed"], {}]')
            return [before.process, (await processes.call(place, '[["b"], {}]')).process]

    before, after = asyncio.run(main())
    assert before != after


def test_functions_that_cannot_be_found_or_awaited_are_refused() -> None:
    def inner() -> None: ...

    with pytest.raises(DefinitionError, match="at the top of a module"):
        _ = carrara.step(isolated=True)(inner).spec
    with pytest.raises(DefinitionError, match="isolated or inline"):
        carrara.step(isolated=True, inline=True)(inner)

    async def late() -> None: ...

    with pytest.raises(DefinitionError, match="sync function"):
        carrara.step(isolated=True)(late)
