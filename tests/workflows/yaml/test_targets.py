"""Import paths are looked up without running anything, and fetched when a pipeline runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from carrara.workflows.errors import DefinitionError
from carrara.workflows.yaml.targets import Parameters, TargetError, fetch, look_up

SOURCE = """
import functools
from carrara import llm, step, workflow
raise RuntimeError("not to be run")

def plain(a, b=1, *rest, c, d=2, **more): ...
async def later(x): ...

@step(retries=2)
def decorated(x): ...

@llm
def asks(q: str) -> str: ...

@workflow
def flows(x): ...

@functools.cache
def cached(x): ...

class Thing: ...
alias = plain
first, second = plain, later
annotated: int = 3
if True:
    def branch(x): ...
try:
    import json as reader
except ImportError:
    reader = None
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tools.py").write_text(SOURCE)
    (tmp_path / "open.py").write_text("def __getattr__(name): ...\n")
    (tmp_path / "star.py").write_text("from os.path import *\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("plain", Parameters(("a", "b", "c", "d"), ("a", "c"), open_ended=True)),
        ("later", Parameters(("x",), ("x",))),
        ("decorated", Parameters(("x",), ("x",))),
        ("branch", Parameters(("x",), ("x",))),
        ("cached", None),
        ("Thing", None),
        ("alias", None),
        ("second", None),
        ("annotated", None),
        ("reader", None),
    ],
)
def test_parameters_are_read_from_the_source(
    folder: Path, name: str, parameters: Parameters | None
) -> None:
    assert look_up(f"./tools.py:{name}", folder).parameters == parameters


def test_what_decorators_make_of_a_function_is_seen(folder: Path) -> None:
    kinds = [look_up(f"tools.py:{name}", folder).kind for name in ("decorated", "asks", "flows")]
    assert kinds == ["python", "llm", "workflow"]


@pytest.mark.parametrize("target", ["./open.py:anything", "./star.py:join"])
def test_a_module_that_may_have_any_name_is_believed(folder: Path, target: str) -> None:
    assert look_up(target, folder).parameters is None


@pytest.mark.parametrize(
    "target", ["math:sqrt", "json:dumps", "os.path:join", "json.decoder:JSONDecoder"]
)
def test_installed_modules_are_found(target: str, tmp_path: Path) -> None:
    look_up(target, tmp_path)
    assert callable(fetch(target, tmp_path))


def test_looking_up_does_not_import_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "a_package_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "inner.py").write_text("def f(x): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert look_up("a_package_of_mine.inner:f", tmp_path).parameters == Parameters(("x",), ("x",))
    assert "a_package_of_mine" not in sys.modules
    with pytest.raises(
        DefinitionError, match=r"importing 'a_package_of_mine.inner' failed: RuntimeError"
    ):
        fetch("a_package_of_mine.inner:f", tmp_path)


@pytest.mark.parametrize(
    "target", ["f", "math", "math:", ":f", "math:2f", "json.nothing:f", ".x:f", "nowhere_at_all:f"]
)
def test_what_is_not_there_is_refused(target: str, tmp_path: Path) -> None:
    with pytest.raises(TargetError):
        look_up(target, tmp_path)


def test_a_changed_file_is_imported_again_an_unchanged_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "t.py"
    path.write_text("x = object()\n")
    first = fetch("./t.py:x", tmp_path)
    assert fetch("t.py:x", tmp_path) is first
    path.write_text("x = 'other, and longer'\n")
    assert fetch("./t.py:x", tmp_path) == "other, and longer"
