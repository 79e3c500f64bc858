"""Import paths of Python functions: `package.module:name` and `./file.py:name`.

`look_up` finds the definition without running any code: the file is parsed, never imported. `fetch` imports, and
is called only when a pipeline is about to run.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any, Final

from carrara.runtime.step import StepKind
from carrara.workflows.errors import DefinitionError
from carrara.workflows.yaml.mistakes import did_you_mean

OUR_DECORATORS: Final[Mapping[str, StepKind]] = {
    "step": "python",
    "llm": "llm",
    "workflow": "workflow",
}
"""Decorators known to keep a function's parameters, and what they make of it."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a function can be called with by keyword. `open_ended`: it takes any name."""

    names: tuple[str, ...]
    required: tuple[str, ...]
    open_ended: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """Something found. `parameters` is None where they cannot be told without importing; `kind` is as the
    decorators say."""

    parameters: Parameters | None = None
    kind: StepKind = "python"


class TargetError(ValueError):
    """There is nothing at this import path; the message says what is missing."""


def look_up(written: str, beside: Path) -> Target:
    """What `written` names, seen from a pipeline in the folder `beside`. Runs no code.

    Raises:
        TargetError: malformed, or no such file, module or name.
    """
    place, name = _split(written)
    if _is_file(place):
        path = beside / place
        if not path.is_file():
            near = did_you_mean(path.name, [p.name for p in path.parent.glob("*.py")])
            raise TargetError(f"there is no file '{place}' beside the pipeline{near}")
        return _in_file(path, name, place)
    spec = _find_module(place)
    if spec is None and hasattr(sys.modules.get(place), name):
        return Target()  # such as os.path, a module inside one that is no package
    if spec is None:
        raise TargetError(
            f"there is no module '{place}'. Install it, or write './file.py:{name}' "
            "for a file beside the pipeline"
        )
    if spec.origin is None or not spec.origin.endswith(".py"):
        return Target()
    return _in_file(Path(spec.origin), name, place)


def fetch(written: str, beside: Path) -> Any:
    """The object at an import path. Runs the module it is in.

    Raises:
        DefinitionError: no such module or name, or the module failed; the cause is kept.
    """
    place, name = _split(written)
    try:
        module = _load_file(beside / place) if _is_file(place) else importlib.import_module(place)
        return getattr(module, name)
    except AttributeError as error:
        raise DefinitionError(f"'{place}' has no '{name}'") from error
    except Exception as error:
        raise DefinitionError(
            f"importing '{place}' failed: {type(error).__name__}: {error}"
        ) from error


def _split(written: str) -> tuple[str, str]:
    place, colon, name = written.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise TargetError(
            f"'{written}' is no import path. Write 'package.module:name' or './file.py:name'"
        )
    return place, name


def _is_file(place: str) -> bool:
    return place.endswith(".py") or "/" in place


def _find_module(dotted: str) -> ModuleSpec | None:
    """The spec of a module. Unlike importlib.util.find_spec, it never imports the parent packages."""
    head, *rest = dotted.split(".")
    try:
        spec = importlib.util.find_spec(head) if head else None
    except (ImportError, ValueError):
        return None
    at = head
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        at = f"{at}.{part}"
        spec = PathFinder.find_spec(at, spec.submodule_search_locations)
    return spec


def _in_file(path: Path, name: str, shown: str) -> Target:
    try:
        names = _definitions(path, path.stat().st_mtime_ns)
    except (OSError, SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise TargetError(f"'{shown}' cannot be read{line}: {reason}") from error
    if name in names:
        return names[name]
    if "*" in names:
        return Target()
    raise TargetError(f"'{shown}' has no '{name}'{did_you_mean(name, names)}")


@lru_cache(maxsize=128)
def _definitions(path: Path, _changed: int) -> dict[str, Target]:
    """The names that a module defines at its top level; "*" if it may have others."""
    tree = ast.parse(path.read_bytes(), str(path))
    found: dict[str, Target] = {}
    for node in _top_level(tree.body):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                found[node.name] = Target(_parameters(node), _kind(node))
                if node.name == "__getattr__":
                    found["*"] = Target()
            case ast.ClassDef():
                found[node.name] = Target()
            case ast.Import() | ast.ImportFrom():
                found |= {(a.asname or a.name).split(".")[0]: Target() for a in node.names}
            case ast.Assign() | ast.AnnAssign():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for part in (p for target in targets for p in ast.walk(target)):
                    if isinstance(part, ast.Name):
                        found[part.id] = Target()
    return found


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, those inside `if`, `try` and `with` too."""
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody"):
            if isinstance(node, ast.If | ast.Try | ast.With):
                yield from _top_level(getattr(node, part, []))
        if isinstance(node, ast.Try):
            for handler in node.handlers:
                yield from _top_level(handler.body)


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Parameters | None:
    """The parameters by keyword, None if a decorator may have changed them."""
    if not all(_last_name(decorator) in OUR_DECORATORS for decorator in node.decorator_list):
        return None
    spec = node.args
    names = [arg.arg for arg in spec.args]
    required = names[: len(names) - len(spec.defaults)]
    for arg, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True):
        names.append(arg.arg)
        if default is None:
            required.append(arg.arg)
    return Parameters(tuple(names), tuple(required), spec.kwarg is not None)


def _kind(node: ast.FunctionDef | ast.AsyncFunctionDef) -> StepKind:
    names = [_last_name(decorator) for decorator in node.decorator_list]
    return next((OUR_DECORATORS[name] for name in names if name in OUR_DECORATORS), "python")


def _last_name(node: ast.expr) -> str:
    match node:
        case ast.Call(func=func):
            return _last_name(func)
        case ast.Attribute(attr=attr):
            return attr
        case ast.Name(id=name):
            return name
        case _:
            return ""


def _load_file(path: Path) -> Any:
    """The module in a file, executed once for each version of the file."""
    path = path.resolve()
    version = f"{path}:{path.stat().st_mtime_ns}"
    name = (
        f"carrara_file_{path.stem}_{hashlib.blake2b(version.encode(), digest_size=6).hexdigest()}"
    )
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
