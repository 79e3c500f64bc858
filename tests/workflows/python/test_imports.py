"""`import carrara` is cheap, and its names are those that it lists."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import carrara

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("torch", "networkx", "pydantic", "jinja2", "rich", "typer", "ruamel", "numpy", "asyncio")


def modules_after(code: str) -> set[str]:
    """The top-level modules that are loaded after `code` ran in a fresh Python."""
    found = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in found.stdout.split()}


def test_importing_carrara_loads_nothing_heavy() -> None:
    assert modules_after("import carrara").isdisjoint(HEAVY)


def test_running_plain_python_loads_no_model_and_no_template_engine() -> None:
    code = """
import carrara

@carrara.step
def double(number: int) -> int:
    return 2 * number

@carrara.workflow
async def twice(number: int) -> int:
    return await double(double(number))

assert carrara.run_sync(twice, 3).value == 12
"""
    loaded = modules_after(code)
    assert loaded.isdisjoint({"torch", "networkx", "pydantic", "jinja2", "rich", "typer", "numpy"})


def test_every_public_name_can_be_had() -> None:
    assert dir(carrara) == sorted(carrara.__all__)
    for name in carrara.__all__:
        assert getattr(carrara, name) is not None


def test_every_public_name_has_a_home() -> None:
    assert {"__version__", *carrara._HOME} == set(carrara.__all__)


def test_type_checkers_see_the_same_names() -> None:
    text = (ROOT / "carrara" / "__init__.py").read_text(encoding="utf-8")
    shown = {line.rpartition(" ")[2] for line in text.splitlines() if line.startswith("    from ")}
    assert shown - {"import_module"} == set(carrara.__all__) - {"__version__"}


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'carrara' has no attribute 'steps'"):
        carrara.steps  # type: ignore[attr-defined]  # noqa: B018
