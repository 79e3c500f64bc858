"""The keys of a step: which say what it does, which go with which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from carrara.workflows.yaml.notes import Notes
from carrara.workflows.yaml.source import Location

KINDS: Final = ("llm", "python", "use")
_OTHERS: Final = ("description", "for_each", "split", "as", "limit", "merge", "when", "repeat")
_RUNS: Final = ("retries", "timeout", "concurrency", "cache")
SETTINGS: Final = (
    "max_tokens", "max_steps", "temperature", "top_p", "seed", "stop", "repair", "rule",
)  # fmt: skip
KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "llm": (
        "llm", "system", "returns", "examples", "engine", "tags", *SETTINGS, "validators",
        *_RUNS, *_OTHERS,
    ),
    "python": ("python", "with", "returns", "inline", "isolated", *_RUNS, *_OTHERS),
    "use": ("use", "with", *_OTHERS),
}  # fmt: skip
FAN_OUTS: Final = ("for_each", "split")
"""What makes a step run more than once side by side."""
NEEDS: Final = {"as": FAN_OUTS, "limit": FAN_OUTS, "merge": FAN_OUTS}
"""Keys that mean something only beside one of others."""


def read_kind(raw: Mapping[str, Any], where: Location, notes: Notes) -> str | None:
    """What the step does: llm, python or use. Notes keys that do not go together."""
    given = [kind for kind in KINDS if kind in raw]
    if not given:
        notes.at_key(where, f"step '{where[1]}' does nothing: it needs one of llm, python, use")
        return None
    for other in given[1:]:
        notes.at_key(
            (*where, other), f"'{given[0]}' and '{other}' exclude each other in step '{where[1]}'"
        )
    if all(key in raw for key in FAN_OUTS):
        notes.at_key(
            (*where, "split"), f"'for_each' and 'split' exclude each other in step '{where[1]}'"
        )
    known = {key for keys in KEYS.values() for key in keys}
    for key in raw:
        if key in known and key not in (*KEYS[given[0]], *given):
            notes.at_key(
                (*where, key), f"'{key}' does not go with '{given[0]}' in step '{where[1]}'"
            )
        elif key in NEEDS and not any(needed in raw for needed in NEEDS[key]):
            needs = "' or '".join(NEEDS[key])
            notes.at_key((*where, key), f"'{key}' needs '{needs}' in step '{where[1]}'")
    return given[0]
