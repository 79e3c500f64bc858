"""What stands in README.md and docs/ holds: programs and pipelines run as they stand, commands and links exist.

Every ```python and ```yaml block is run, unless `<!-- not run -->` stands before it; ```bash blocks likewise, each in
a folder of its own beside `examples`. Of all of them, commands that begin with `carrara` or `make` must be ones that
there are. The examples of docs/yaml.md are run by tests/workflows/yaml/test_docs.py.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from carrara.cli.app import app
from carrara.workflows.plan import plan
from carrara.workflows.target import load_workflow

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
RUN_ELSEWHERE = {"docs/yaml.md"}
NOT_RUN = "<!-- not run -->"
_FENCE = re.compile(
    r"^(?P<mark><!-- not run -->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its first line in the page."""

    page: str
    line: int
    language: str
    text: str
    runs: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    name = str(page.relative_to(ROOT))
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start("text")) + 1
        runs = not found["mark"] and name not in RUN_ELSEWHERE
        yield Block(name, line, found["language"], found["text"], runs)


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def runnable(language: str) -> Any:
    """Parametrises a test with the blocks of a language that are run."""
    found = [block for block in BLOCKS if block.language == language and block.runs]
    return pytest.mark.parametrize("block", found, ids=str)


@pytest.fixture
def python(tmp_path: Path) -> Any:
    """Run words with this interpreter in an empty folder."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return run


def test_there_are_blocks_to_run() -> None:
    for language in ("python", "yaml", "bash"):
        assert [block for block in BLOCKS if block.language == language]


@runnable("python")
def test_a_python_block_is_python(block: Block) -> None:
    compile(block.text, str(block), "exec")


@pytest.mark.weights
@pytest.mark.usefixtures("smollm2_folder")
@runnable("python")
def test_a_python_block_runs_as_it_stands(block: Block, tmp_path: Path, python: Any) -> None:
    (tmp_path / "block.py").write_text(block.text, encoding="utf-8")
    ended = python("block.py")
    assert ended.returncode == 0, ended.stderr
    if "print(" in block.text:
        assert ended.stdout.strip()


@runnable("yaml")
def test_a_yaml_block_is_a_pipeline(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "block.yaml"
    path.write_text(block.text, encoding="utf-8")
    assert plan(load_workflow(str(path))).steps


@pytest.mark.weights
@pytest.mark.usefixtures("smollm2_folder")
@runnable("yaml")
def test_a_yaml_block_runs_as_it_stands(block: Block, tmp_path: Path, python: Any) -> None:
    (tmp_path / "block.yaml").write_text(block.text, encoding="utf-8")
    ended = python("-m", "carrara", "run", "block.yaml", "--output", "out")
    assert ended.returncode == 0, ended.stderr
    assert list((tmp_path / "out").iterdir())


@pytest.mark.weights
@pytest.mark.usefixtures("smollm2_folder")
@runnable("bash")
def test_a_bash_block_runs_as_it_stands(block: Block, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr


def commands(program: str) -> list[Any]:
    """The commands in bash blocks that begin with a program, with their places."""
    found = []
    for block in BLOCKS:
        if block.language in {"bash", "sh", "console"}:
            text = block.text.replace("\\\n", " ")
            for number, line in enumerate(text.splitlines()):
                words = shlex.split(line.removeprefix("$ "), comments=True)
                if words[:1] == [program]:
                    place = f"{block.page}:{block.line + number}"
                    found.append(pytest.param(words[1:], id=f"{place} {' '.join(words[1:])}"))
    return found


@pytest.mark.parametrize("words", commands("carrara"))
def test_a_carrara_command_is_one_that_there_is(words: list[str]) -> None:
    """Its options and arguments are parsed as on the command line; nothing is called."""
    command: Any = typer.main.get_command(app)
    rest = words
    while hasattr(command, "commands"):
        assert rest, "a command is missing"
        assert rest[0] in command.commands, rest[0]
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context(command.name, list(rest))


@pytest.mark.parametrize("words", commands("make"))
def test_a_make_target_is_one_that_there_is(words: list[str]) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert set(words) <= set(targets)


def links() -> Iterator[Any]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
            if "://" not in target:
                yield pytest.param(page, target, id=f"{page.relative_to(ROOT)} {target}")


@pytest.mark.parametrize(("page", "target"), list(links()))
def test_a_link_leads_somewhere(page: Path, target: str) -> None:
    file, _, anchor = target.partition("#")
    found = page.parent / file if file else page
    assert found.exists()
    if anchor:
        heads = re.findall(r"^#+ +(.+)$", found.read_text(encoding="utf-8"), re.M)
        assert anchor in {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}
