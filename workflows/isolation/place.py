"""Where another process finds a function again."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from carrara.workflows.source import wrong


@dataclass(frozen=True, slots=True)
class Place:
    """A function `name` at the top of `module`, which stands in `file` ("" where it is found by its name). `pipeline`
    is the file that declares the types of its arguments, "" where they are Python's own."""

    module: str
    file: str
    name: str
    pipeline: str = ""

    def load(self) -> Callable[..., Any]:
        """The function, with its module and the types of the pipeline loaded as they are in the first process."""
        if self.pipeline:
            from pathlib import Path

            from carrara.workflows.yaml.load import load

            _ = load(Path(self.pipeline)).workflow
        module = sys.modules.get(self.module)
        if module is None and self.file:
            spec = importlib.util.spec_from_file_location(self.module, self.file)
            assert spec is not None
            assert spec.loader is not None
            module = sys.modules[self.module] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        elif module is None:
            module = importlib.import_module(self.module)
        found = getattr(module, self.name)
        function: Callable[..., Any] = getattr(found, "function", found)
        return function


def place_of(function: Callable[..., Any], pipeline: str = "") -> Place:
    """Raises DefinitionError for a function that another process cannot find: one inside another, or in a script that
    is run itself."""
    name = str(getattr(function, "__qualname__", "<object>"))
    module = str(getattr(function, "__module__", ""))
    if not name.isidentifier() or module in ("", "__main__"):
        raise wrong(
            function,
            "an isolated step runs in a process of its own, which must find it: make it a function at the top of a "
            "module that is imported",
        )
    found = sys.modules.get(module)
    file = "" if "." in module else str(getattr(found, "__file__", None) or "")
    return Place(module, file, name, pipeline)


__all__ = ["Place", "place_of"]
