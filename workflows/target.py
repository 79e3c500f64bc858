"""Workflows by name, as the command line and the journal write it: "module:name", "file.py", "file.yaml"."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from carrara.workflows.calls import Definition
from carrara.workflows.errors import DefinitionError, did_you_mean
from carrara.workflows.source import shown_path

YAML = (".yaml", ".yml")


def load_workflow(target: str, folder: str = "") -> Definition[..., Any]:
    """The workflow (or the single step) that `target` names. Importing a Python file runs its module code.

    Without a name the file's only workflow is meant. A relative path, or a module that is not found otherwise, is
    meant from `folder`, "" for the working folder.

    Raises:
        DefinitionError: there is no such file, module or name, it is no workflow, or it is written wrongly.
    """
    if folder not in ("", os.getcwd()):
        if _place(target).endswith((*YAML, ".py")):
            target = os.path.join(folder, target)
        elif folder not in sys.path:
            sys.path.append(folder)
    found = load_workflows(target)
    if len(found) == 1:
        return found[0]
    names = " or ".join(f"{target}:{workflow.name}" for workflow in found)
    raise DefinitionError(f"{target} defines several workflows; write {names}")


def load_workflows(target: str) -> list[Definition[..., Any]]:
    """The one that `target` names, or all workflows of a file that is given without a name: at least one.

    Raises:
        DefinitionError: as `load_workflow`.
    """
    if target.endswith(YAML):
        return [_from_yaml(Path(target))]
    place = _place(target)
    name = target[len(place) + 1 :]
    if Path(place).is_dir() and not Path(place, "__init__.py").is_file():
        _check_file(Path(place))
    module = _from_file(Path(place)) if place.endswith(".py") else _imported(place)
    return [_named(module, name, target)] if name else _all(module, target)


def file_of(workflow: Definition[..., Any]) -> Path | None:
    """The file that a workflow or a step is written in, None where there is none."""
    source = getattr(workflow, "source", "")
    if source.endswith(YAML):
        path = Path(source)
    else:
        code = getattr(inspect.unwrap(workflow), "__code__", None)
        path = Path(getattr(code, "co_filename", ""))
    return path if path.is_file() else None


def _has_name(target: str) -> bool:
    """Whether the last colon is not that of a Windows drive."""
    head, colon, tail = target.rpartition(":")
    return bool(colon) and len(head) > 1 and not tail.endswith(".py")


def _place(target: str) -> str:
    """The file or module in a target."""
    return target.rpartition(":")[0] if _has_name(target) else target


def _from_yaml(path: Path) -> Definition[..., Any]:
    from carrara.workflows.yaml import load

    _check_file(path)
    found: Definition[..., Any] = load(path).workflow
    return found


def _check_file(path: Path) -> None:
    if path.is_file():
        return
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if p.suffix in (*YAML, ".py"))
        named = f" Name a file in it, such as {path / inside[0]}." if inside else ""
        raise DefinitionError(f"{path} is a folder, and a workflow is a file.{named}")
    there = [p.name for p in path.parent.glob(f"*{path.suffix}")] if path.parent.is_dir() else []
    raise DefinitionError(f"there is no file {path}", hint=did_you_mean(path.name, there))


def _from_file(path: Path) -> ModuleType:
    """The module of a file under its bare name, as if the file were run: the journal finds classes so."""
    _check_file(path)
    name, path = path.stem, path.resolve()
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    if loaded is not None:
        raise DefinitionError(
            f"a module called {name!r} is loaded already; give {shown_path(str(path))} another name"
        )
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    return _imported(name, path)


def _imported(name: str, file: Path | None = None) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except DefinitionError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise DefinitionError(
                f"there is no module {name!r}. Write package.module:name, file.py:name or file.yaml"
            ) from error
        raise _broken(name, file, error) from error
    except Exception as error:  # a user's module may fail in any way
        raise _broken(name, file, error) from error


def _broken(name: str, file: Path | None, error: Exception) -> DefinitionError:
    """A module that raises, with the place in it."""
    if isinstance(error, SyntaxError) and error.filename:
        return DefinitionError(
            f"{error.msg}", file=shown_path(error.filename), line=error.lineno, column=error.offset
        )
    trace = traceback.extract_tb(error.__traceback__)
    frames = [f for f in trace if "importlib" not in f.filename and f.filename != __file__]
    text = f"module {name!r} cannot be imported: {type(error).__name__}: {error}"
    if not frames:
        return DefinitionError(text, file=shown_path(str(file)) if file else None)
    return DefinitionError(text, file=shown_path(frames[-1].filename), line=frames[-1].lineno)


def _named(module: ModuleType, name: str, target: str) -> Definition[..., Any]:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Definition):
        return found
    names = [n for n, value in vars(module).items() if isinstance(value, Definition)]
    if found is None:
        raise DefinitionError(f"{target}: there is no {name!r}", hint=did_you_mean(name, names))
    raise DefinitionError(
        f"{target}: {name!r} is a {type(found).__name__}, not a workflow. Decorate it with @workflow"
    )


def _all(module: ModuleType, target: str) -> list[Definition[..., Any]]:
    from carrara.workflows.steps import Workflow

    found: dict[int, Definition[..., Any]] = {}
    for value in vars(module).values():
        if isinstance(value, Workflow) and value.function.__module__ == module.__name__:
            found[id(value)] = value
    if not found:
        raise DefinitionError(f"{target} defines no workflow. Decorate a function with @workflow")
    return list(found.values())
