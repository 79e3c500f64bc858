"""Names in a policy: an unknown one is an error that suggests the closest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from carrara.engines.errors import CarraraError


def known_keys(found: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise CarraraError for the first of `found` that is not in `known`."""
    names = list(known)
    for name in found:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, 1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(names)}."
            raise CarraraError(f"routing policy: unknown {what} {name!r}.{hint}")


def names_of(found: Any) -> tuple[str, ...]:
    """One name or several."""
    return (found,) if isinstance(found, str) else tuple(found)


__all__ = ["known_keys", "names_of"]
