"""The results as Markdown tables, for docs/diffusion.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def tables(found: dict[str, Any]) -> str:
    """All parts that a results file holds."""
    parts = [
        _calls(found.get("calls", {}), found.get("chain", {})),
        _ahead(found.get("ahead", {})),
        _passes(found),
    ]
    return "\n\n".join(part for part in parts if part)


def _calls(calls: dict[str, Any], chain: dict[str, Any]) -> str:
    rows = []
    for kind, batches in calls.items():
        if not isinstance(batches, dict):
            continue
        for batch, lines in batches.items():
            for name, line in lines.items():
                if name == "ratios":
                    continue
                ratio = lines["ratios"].get(name, {}).get("cpu", "")
                rows.append(
                    (
                        kind,
                        batch,
                        name,
                        line["tokens"],
                        line.get("passes", ""),
                        line["wall_ms"],
                        line["cpu_ms"],
                        ratio,
                    )
                )
    for name, line in chain.get("lines", {}).items():
        ratio = chain["ratios"].get(name, {}).get("cpu", "")
        rows.append(
            (f"chain of {chain['calls']}", 1, name, "", "", line["wall_ms"], line["cpu_ms"], ratio)
        )
    heads = (
        "call",
        "batch",
        "decoder",
        "tokens",
        "passes",
        "ms (wall)",
        "ms (CPU)",
        "times diffusion (CPU)",
    )
    return _table(heads, rows) if rows else ""


def _ahead(found: dict[str, Any]) -> str:
    rows = [
        (
            rule,
            batch,
            passes,
            line["ms_a_pass"],
            line["trips"],
            f"{line['differ']} of {line['answers']}",
        )
        for rule, batches in found.items()
        if isinstance(batches, dict)
        for batch, lines in batches.items()
        for passes, line in lines.items()
    ]
    heads = (
        "rule",
        "batch",
        "passes a sync",
        "ms a pass",
        "trips to the host",
        "answers that differ",
    )
    return _table(heads, rows) if rows else ""


def _passes(found: dict[str, Any]) -> str:
    models = {"embedded": found.get("passes", {}), **found.get("shapes", {})}
    rows = []
    for name, part in models.items():
        if not isinstance(part, dict):
            continue
        rows += [
            (
                name,
                part["weights"],
                *(line[key] for key in ("batch", "canvas", "prompt")),
                *(line[key]["wall_ms"] for key in ("pass", "few")),
                part["floor_ms"],
                line["times_floor_few"],
            )
            for line in part.get("lines", [])
            if "pass" in line
        ]
    heads = (
        "model",
        "weights",
        "batch",
        "canvas",
        "prompt",
        "ms a pass",
        "ms, 4 wanted",
        "floor ms",
        "times floor",
    )
    return _table(heads, rows) if rows else ""


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
