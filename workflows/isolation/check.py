"""Which functions can be isolated."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from carrara.workflows.source import wrong


def check_isolated(function: Callable[..., Any], *, inline: bool | None = False) -> None:
    """Raises DefinitionError for an async function, and for one that is to run inline, too."""
    if inline:
        raise wrong(function, "a step is isolated or inline, not both")
    if inspect.iscoroutinefunction(function):
        raise wrong(
            function, "an isolated step is a sync function: an async one would have no loop"
        )


__all__ = ["check_isolated"]
