"""Where a definition stands: its file and line for messages, and the name by which it is found again."""

from __future__ import annotations

import ast
import inspect
import os
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from carrara.workflows.errors import DefinitionError


def wrong(
    function: Callable[..., Any], text: str, *, line: int = 0, hint: str | None = None
) -> DefinitionError:
    """An error at a function; `line` counts lines of its docstring from 1, 0 is the function itself."""
    plain = inspect.unwrap(function)
    code = getattr(plain, "__code__", None)
    if code is None:
        return DefinitionError(f"{name_of(function)}: {text}", hint=hint)
    start = code.co_firstlineno
    if line:
        start = (_docstring_line(plain) or start) + line - 1
    where = shown_path(code.co_filename)
    return DefinitionError(f"{name_of(function)}: {text}", file=where, line=start, hint=hint)


def check_function(function: Any, decorator: str) -> None:
    """Raise DefinitionError for what no step can be made of."""
    if isinstance(function, staticmethod | classmethod):
        kind = type(function).__name__
        raise DefinitionError(f"@{decorator} stands above @{kind}: make a plain function of it")
    if not callable(function):
        raise DefinitionError(
            f"@{decorator} is for functions; {function!r} is of type {type(function).__name__}"
        )
    outer = str(getattr(function, "__qualname__", "")).rpartition(".")[0]
    first = getattr(getattr(function, "__code__", None), "co_varnames", ("",))[:1]
    is_method = outer and not outer.endswith("<locals>") and not hasattr(function, "__self__")
    if is_method and first in (("self",), ("cls",)):
        raise wrong(
            function,
            f"@{decorator} cannot be put on a method: nobody would give it {first[0]!r}. Make it a function that "
            f"takes what it needs, or write {decorator}(instance.{name_of(function)})",
        )


def name_of(function: Any) -> str:
    """The name of a function; of a partial that of what it calls, of an object that of its class."""
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def shown_path(file: str) -> str:
    """A path as short as it can be written from here."""
    try:
        relative = os.path.relpath(file)
    except ValueError:  # another drive
        return file
    return file if relative.startswith("..") else relative


def reference(function: Callable[..., Any]) -> str:
    """ "package.module:name", or "file.py:name" for a file outside of packages, which is not found by its name
    from another folder; "" for what cannot be found again (a local function)."""
    qualified = getattr(function, "__qualname__", "")
    if not qualified or "<" in qualified:
        return ""
    module = str(getattr(function, "__module__", ""))
    found = sys.modules.get(module)
    spec = getattr(found, "__spec__", None)
    if module == "__main__" and spec is not None:
        module = spec.name
    file = getattr(found, "__file__", None)
    if file is not None and "." not in module and Path(file).name != "__init__.py":
        module = str(Path(file).resolve())
    return "" if module == "__main__" else f"{module}:{qualified}"


def _docstring_line(function: Callable[..., Any]) -> int | None:
    """The file's line on which the text of the docstring begins, as `inspect.cleandoc` leaves it."""
    try:
        lines, first = inspect.getsourcelines(function)
        body = ast.parse(textwrap.dedent("".join(lines))).body[0]
    except (OSError, SyntaxError, IndexError):
        return None
    if not isinstance(body, ast.FunctionDef | ast.AsyncFunctionDef) or not body.body:
        return None
    text = function.__doc__ or ""
    blank = len(text) - len(text.lstrip("\n"))  # cleandoc drops the empty lines at the top
    return first + body.body[0].lineno - 1 + blank
