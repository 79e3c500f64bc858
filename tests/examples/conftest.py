"""The examples, run by engines that know the gold answers, and by the embedded ones."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import carrara
from carrara.engines.engine import Engine
from carrara.engines.request import Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.report import Reporter, RunReport

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"

Reply = Callable[[Request], str]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def examples() -> Path:
    return EXAMPLES


@pytest.fixture
def rows() -> Callable[[Path], list[dict[str, Any]]]:
    return rows_of


@pytest.fixture
def known(tmp_path: Path) -> Callable[[str, Reply], Path]:
    """`known("cookbook/cookbook.yaml", reply)`: a cassette of a run whose engines reply so."""

    def record(target: str, reply: Reply) -> Path:
        path = tmp_path / "calls.cassette"
        engines: dict[str, Engine] = {
            name: ScriptedEngine(name, reply, can=("schema", "choice", "regex", "table"))
            for name in ("diffusion", "ar")
        }

        async def main() -> None:
            async with carrara.session(engines=engines, record=path) as session:
                await session.run(carrara.load_workflow(str(EXAMPLES / target)))

        asyncio.run(main())
        return path

    return record


@pytest.fixture
def replayed(tmp_path: Path) -> Callable[[str, Path], Path]:
    """`replayed("cookbook/cookbook.yaml", cassette)`: the folder that `carrara run` writes, without any engine."""

    def run(target: str, cassette: Path) -> Path:
        words = ("run", EXAMPLES / target, "--replay", cassette, "--output", "out")
        found = subprocess.run(
            [sys.executable, "-m", "carrara", *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
            capture_output=True,
            text=True,
        )
        assert found.returncode == 0, found.stderr
        return tmp_path / "out"

    return run


@pytest.fixture
def run_embedded(embedded: Any) -> Callable[..., tuple[Any, RunReport]]:
    """`run_embedded("inbox/inbox.py:inbox", messages=…)`: value and report of a run on the embedded engines."""

    def run(target: str, **inputs: Any) -> tuple[Any, RunReport]:
        reporter = Reporter()

        async def work(engines: Any) -> Any:
            async with carrara.session(engines=engines, listeners=[reporter]) as session:
                return await session.run(carrara.load_workflow(str(EXAMPLES / target)), **inputs)

        return embedded(work).value, reporter.report

    return run
