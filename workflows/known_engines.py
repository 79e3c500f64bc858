"""Engines that a policy or a step names and that nobody knows: told before any engine is opened."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from carrara.runtime.routing.policy import Policy
from carrara.workflows.errors import did_you_mean


def named_by(policy: Policy) -> dict[str, str]:
    """Every engine that a policy names, and where it stands in it, in words."""
    judges, whose = policy.judges, f"policy {policy.name!r}"
    return {
        name: f", the judge of {whose}" if name in judges else f" of {whose}"
        for name in policy.named_engines
    }


def unknown_engines(
    named: Iterable[tuple[str, str]],
    here: Collection[str],
    definitions: Mapping[str, Mapping[str, Any]] | None,
) -> list[str]:
    """What to tell of those of the `named` engines, each with where it stands, that are not among those `here` and
    cannot be opened by name, with these definitions of a pipeline.

    Raises:
        LoadingError: the configuration file or a definition is wrong.
    """
    strange = [(name, where) for name, where in named if name not in here]
    if not strange:
        return []
    from carrara.engines.registry import kinds_by_name

    known = (*here, *kinds_by_name(definitions))
    return [
        f"unknown engine {name!r}{where}{_hint(name, known)}"
        for name, where in strange
        if name not in known
    ]


def _hint(name: str, known: Collection[str]) -> str:
    near = did_you_mean(name, known)
    return f". Did you mean {near!r}?" if near else "; `carrara engines` lists them"


__all__ = ["named_by", "unknown_engines"]
