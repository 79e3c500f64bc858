"""What is not loaded: `import carrara` and `carrara --help` are light, and a run without a model stays so."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

HEAVY = {"torch", "networkx", "numpy", "tokenizers", "safetensors", "gguf", "llguidance"}
NEEDLESS_FOR_HELP = HEAVY | {"jinja2", "ruamel", "sqlite3", "jsonschema", "asyncio"}

REPORT = """
import json, sys
def loaded():
    return sorted({name.partition(".")[0] for name in sys.modules})
"""


def modules_after(shell: Any, code: str) -> set[str]:
    """The top-level modules that a program has loaded at its end."""
    program = (
        f"{REPORT}\ntry:\n    {code}\nfinally:\n    print(json.dumps(loaded()), file=sys.stderr)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=shell.folder,
        env=shell.environment,
        capture_output=True,
        text=True,
    )
    return set(json.loads(found.stderr.splitlines()[-1]))


def test_import_carrara_loads_nothing_heavy(shell: Any) -> None:
    needless = NEEDLESS_FOR_HELP | {"pydantic", "typer", "rich"}
    assert not modules_after(shell, "import carrara; dir(carrara)") & needless


def test_all_public_names_can_be_had_without_torch(shell: Any) -> None:
    code = "import carrara; [getattr(carrara, name) for name in carrara.__all__]"
    assert not modules_after(shell, code) & HEAVY


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"]], ids=" ".join)
def test_help_loads_nothing_heavy(shell: Any, words: list[str]) -> None:
    code = f"sys.argv[1:] = {words!r}; import carrara.cli; carrara.cli.main()"
    assert not modules_after(shell, code) & NEEDLESS_FOR_HELP


def test_a_run_without_a_model_loads_neither_torch_nor_networkx(shell: Any) -> None:
    words = ["run", "flows.py:quadruple", "--set", "number=1", "-q"]
    code = f"sys.argv[1:] = {words!r}; import carrara.cli; carrara.cli.main()"
    assert not modules_after(shell, code) & HEAVY
