"""`carrara validate` and `carrara plan` on the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from carrara.cli.plan import plan, validate

FLOWS = '''
from typing import Literal
from carrara import llm, workflow

@llm
def course(doc: str) -> Literal["main", "dessert"]:
    """Which course? {{ doc }}"""

@workflow
async def cookbook(docs: list[str]) -> int:
    return len([await found for found in [course(doc) for doc in docs]])
'''

WRONG = '''
from carrara import llm

@llm
def course(doc: str) -> str:
    """Which course? {{ dok }}"""
'''


HASTY = """
from typing import Literal
from carrara import llm, workflow

@llm
def course(doc: str) -> Literal["main", "dessert"]:
    \"\"\"Which course? {{ doc }}\"\"\"

@workflow
async def hasty(doc: str) -> str:
    return "sweet" if course(doc) == "dessert" else "salty"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "planned_flows.py").write_text(FLOWS, encoding="utf-8")
    (tmp_path / "wrong_flows.py").write_text(WRONG, encoding="utf-8")
    (tmp_path / "hasty_flows.py").write_text(HASTY, encoding="utf-8")
    yield tmp_path
    for name in ("planned_flows", "wrong_flows", "hasty_flows"):
        sys.modules.pop(name, None)


def call(*words: str) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command()(plan)
    app.command()(validate)
    found = CliRunner().invoke(app, list(words), catch_exceptions=False)
    return found.exit_code, found.stdout, found.stderr


def test_a_plan_is_printed_as_text_mermaid_and_json(folder: Path) -> None:
    code, text, _ = call("plan", "planned_flows.py")
    assert code == 0
    assert text.splitlines()[1] == (
        "└─ course  llm -> one of main | dessert  [diffusion, then ar: closed choice]  *"
    )
    assert call("plan", "planned_flows.py", "--format", "mermaid")[1].startswith("flowchart TD")
    data = json.loads(call("plan", "planned_flows.py", "-f", "json")[1])
    assert data["nodes"][0]["contract"] == {"kind": "choice", "options": ["main", "dessert"]}


def test_inputs_and_engines_can_be_given(folder: Path) -> None:
    given = ("--set", 'docs=["a", "b", "c"]', "--engine", "ar")
    _, text, _ = call("plan", "planned_flows.py", *given)
    assert "course x3  llm" in text
    assert "[ar: closed choice; diffusion is not open]" in text


def test_validate_says_what_is_well_defined_and_what_is_not(folder: Path) -> None:
    code, out, err = call("validate", "planned_flows.py", "wrong_flows.py")
    assert code == 2
    assert out == "planned_flows.py: workflow 'cookbook' is well defined, 1 step\n"
    assert err.startswith("wrong_flows.py:6: course: the template uses 'dok'")
    assert "Did you mean 'doc'?" in err
    assert call("validate", "planned_flows.py")[0] == 0


def test_a_handle_that_is_used_like_its_value_is_a_mistake(folder: Path) -> None:
    code, out, err = call("validate", "hasty_flows.py")
    assert (code, out) == (2, "")
    assert err.startswith(
        "hasty_flows.py:11: cannot compare 'str' with the handle of step 'course'"
    )
    assert "mistake: hasty_flows.py:11: cannot compare" in call("plan", "hasty_flows.py")[1]
