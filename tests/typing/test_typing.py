"""Types check end to end: mypy and pyright accept what is right and reject every line that is wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

Errors = dict[str, dict[int, str]]


def errors_of_mypy() -> Errors:
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-pretty", *_files()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = re.findall(r"^(\S+?):(\d+):(?:\d+:)? error: (.*)$", found.stdout, re.MULTILINE)
    assert lines, found.stdout + found.stderr
    return _by_file((name, int(line), text) for name, line, text in lines)


def errors_of_pyright() -> Errors:
    found = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", *_files()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        report = json.loads(found.stdout)
    except ValueError:
        pytest.skip(f"pyright does not run here: {found.stderr[-300:] or found.stdout[-300:]}")
    return _by_file(
        (one["file"], one["range"]["start"]["line"] + 1, one["message"])
        for one in report["generalDiagnostics"]
        if one["severity"] == "error"
    )


def _files() -> list[str]:
    return [str(HERE / "accepted.py"), str(HERE / "rejected.py")]


def _by_file(errors: object) -> Errors:
    found: Errors = {}
    for name, line, text in errors:  # type: ignore[attr-defined]
        found.setdefault(Path(name).name, {})[line] = text
    return found


def wrong_lines() -> set[int]:
    lines = (HERE / "rejected.py").read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, start=1) if "# wrong" in line}


@pytest.mark.parametrize(
    "check", [errors_of_mypy, errors_of_pyright], ids=["under mypy", "under pyright"]
)
def test_right_code_is_accepted_and_every_wrong_line_is_rejected(check: object) -> None:
    errors = check()  # type: ignore[operator]
    assert errors.get("accepted.py", {}) == {}
    assert set(errors["rejected.py"]) == wrong_lines()
