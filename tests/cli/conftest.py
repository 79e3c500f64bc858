"""The command line in a process of its own, in a folder of its own, with workflows to run there.

The process is forked from one that has imported Carrara (warm.py), unless a call needs one from the ground up.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import carrara
from carrara.engines.engine import Engine
from carrara.engines.request import Request
from carrara.engines.scripted import ScriptedEngine
from tests.cli.warm import Warm

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 300  # for a machine that others keep busy

FLOWS = '''
"""Workflows without a model, and one step that can be stopped at a known moment."""

import asyncio
import os
import threading
from typing import TypedDict

from carrara import llm, step, workflow


class Said(TypedDict):
    said: str


@step
async def loud(text: str) -> str:
    with open("calls.log", "a") as log:
        log.write(text + "\\n")
    if text == os.environ.get("STOP_AT"):
        os.write(int(os.environ["REACHED"]), b"reached")
        if os.environ["FROZEN"] == "1":
            threading.Event().wait()
        await asyncio.Event().wait()
    return text.upper()


@workflow
async def shout(text: str, mark: str = "!") -> Said:
    return {"said": await loud(text) + mark}


@step
def double(number: int) -> int:
    return 2 * number


@workflow
async def quadruple(number: int) -> int:
    return await double(double(number))


@workflow
async def chain(words: list[str]) -> list[str]:
    return [await loud(word) for word in words]


@step
def divide(number: int) -> float:
    return 1 / number


@workflow
async def inverse(number: int) -> float:
    return await divide(number)


@workflow
async def slip(number: int) -> int:
    return {}["absent"]
'''

PIPELINE = """
name: greet
inputs:
  name: str
  tone: {type: str, default: warm}
types:
  Mood: {one_of: [glad, sad]}
steps:
  greeting:
    llm: "Greet {{ name }} in a {{ tone }} tone."
    max_tokens: 12
  mood:
    llm: "Which mood has: {{ greeting }}"
    returns: Mood
outputs:
  greeting: "{{ greeting }}"
  mood: "{{ mood }}"
"""


@dataclass(frozen=True)
class Ended:
    """How a process ended. No traceback is ever shown."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines that tell an error: one clear error has one."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]

    @property
    def data(self) -> Any:
        return json.loads(self.out)


class Shell:
    """`python -m carrara …` in `folder`."""

    def __init__(self, folder: Path, warm: Warm) -> None:
        self.folder = folder
        self.environment = environment()
        self._warm = warm

    def __call__(
        self, *words: str | Path, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> Ended:
        variables = {**self.environment, **(env or {})}
        call = [str(word) for word in words]
        return _ended(
            *self._warm.start(call, self.folder, variables, stdin.encode()).wait(PATIENCE_S)
        )

    def cold(
        self,
        *words: str | Path,
        env: Mapping[str, str] | None = None,
        before: Callable[[], None] | None = None,
    ) -> Ended:
        """A process that begins as every user's does; `before` is called in it first."""
        found = subprocess.run(
            self.command(words),
            cwd=self.folder,
            env={**self.environment, **(env or {})},
            capture_output=True,
            timeout=PATIENCE_S,
            preexec_fn=before,
        )
        return _ended(found.returncode, found.stdout, found.stderr)

    def stopped(self, *words: str | Path, at: str, by: signal.Signals) -> Ended:
        """Run until the step `loud` works on the text `at`, then send the signal.

        What is to be killed does nothing from there on: not even the other steps in flight go on.
        """
        reads, writes = os.pipe()
        env = {**self.environment, "STOP_AT": at, "FROZEN": str(int(by == signal.SIGKILL))}
        call = [str(word) for word in words]
        try:
            child = self._warm.start(call, self.folder, env, passed={"REACHED": writes})
        finally:
            os.close(writes)
        reached = os.read(reads, 100)  # b"" if it ended before
        os.close(reads)
        if reached:
            os.kill(child.pid, by)
        ended = _ended(*child.wait(PATIENCE_S))
        assert reached == b"reached", ended.err
        return ended

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def rows(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.read(name).splitlines()]

    @staticmethod
    def command(words: tuple[str | Path, ...]) -> list[str]:
        return [sys.executable, "-m", "carrara", *map(str, words)]


def _ended(code: int, out: bytes, err: bytes) -> Ended:
    told = err.decode()
    assert "Traceback" not in told, told
    return Ended(code, out.decode(), told)


def environment() -> dict[str, str]:
    found = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "COLUMNS": "200"}
    found.pop("PYTHONDONTWRITEBYTECODE", None)  # each call would compile everything
    return found


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    found = Warm(environment())
    yield found
    found.close()


@pytest.fixture
def shell(tmp_path: Path, warm: Warm) -> Iterator[Shell]:
    found = Shell(tmp_path, warm)
    found.write("flows.py", FLOWS)
    found.write("greet.yaml", PIPELINE)
    yield found
    journal = tmp_path / ".carrara" / "journal.db"
    journal.unlink(missing_ok=True)


Reply = Callable[[Request], str]


def friendly(request: Request) -> str:
    """What the engines of a recording say: a mood where they are asked for one, else a greeting."""
    asked = request.messages[-1].content
    return "glad" if request.output.kind == "choice" else f"Hello! ({asked})"


@pytest.fixture
def recorded(shell: Shell) -> Callable[..., Path]:
    """Record a pipeline on scripted engines: `recorded("greet.yaml", {"name": "Ada"}, …) -> cassette`."""

    def make(target: str, *inputs: dict[str, Any], reply: Reply = friendly) -> Path:
        path = shell.folder / "calls.cassette"
        workflow = carrara.load_workflow(str(shell.folder / target))
        engines: dict[str, Engine] = {
            name: ScriptedEngine(name, reply, can=("stream",)) for name in ("diffusion", "ar")
        }

        async def main() -> None:
            async with carrara.session(engines=engines, record=path) as session:
                for given in inputs:
                    await session.run(workflow, **given)

        asyncio.run(main())
        return path

    return make
