"""The results as Markdown tables, for docs/diffusion.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def tables(found: dict[str, Any]) -> str:
    """All parts that a results file holds."""
    parts = [
        _calls(found.get("calls", {}), found.get("chain", {})),
        _crowd(found.get("crowd", {})),
        _ahead(found.get("ahead", {})),
        _passes(found),
        _left_out(found),
    ]
    return "\n\n".join(part for part in parts if part)


def _left_out(found: dict[str, Any]) -> str:
    """What a table does not show because it was not measured, and why."""
    shapes = found.get("shapes", {})
    parts = found | {f"shapes, {name}": part for name, part in shapes.items()}
    lines = []
    for name, part in parts.items():
        if not isinstance(part, dict):
            continue
        if error := part.get("error"):
            lines.append(f"- {name}: failed: {error}")
        if skipped := part.get("left_out"):
            lines.append(f"- {name}: no time was left for {'; '.join(skipped)}")
    return "\n".join(["Not measured:", *lines]) if lines else ""


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


def _crowd(found: dict[str, Any]) -> str:
    keys = (
        "done",
        "cancelled",
        "took_s",
        "records_per_s",
        "records_per_cpu_s",
        "answers_per_pass",
        "cached_share_of_prompts",
    )
    rows = [
        (f"{found['records']} at once", name, *(line.get(key, "") for key in keys))
        for name, line in found.items()
        if isinstance(line, dict)
    ]
    heads = (
        "calls",
        "decoder",
        "answered",
        "cancelled",
        "s",
        "a second (wall)",
        "a second (CPU)",
        "answers in a pass",
        "cached share of prompts",
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
    shapes = found.get("shapes", {})
    divided = shapes.get("divided_by", 1)
    smaller = "" if divided == 1 else f", widths / {divided}, 2 layers"
    models = {"embedded": found.get("passes", {})}
    models |= {f"{name}{smaller}": part for name, part in shapes.items()}
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
                line["few"]["cpu_ms"],
                part["floor_ms"],
                line["times_floor_few"],
                line.get("times_floor_few_cpu", ""),
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
        "ms a pass (wall)",
        "ms, 4 wanted (wall)",
        "ms, 4 wanted (CPU)",
        "floor ms",
        "times floor (wall)",
        "times floor (CPU)",
    )
    return _table(heads, rows) if rows else ""


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
