"""What `benchmarks.embedded` found, as one JSON object and as the tables of the model card."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from benchmarks.machine import processor, versions
from carrara.workflows.scoring.calibration import Judged, auroc, ece

Keys = tuple[str, ...]
Found = Mapping[str, Any]

SLOTS = "/slots/"
"""The place of the slots of a voice command; each intent has its own below it."""

_EXACT: Keys = ("exact_match",)
_F1: Keys = ("field_f1",)
_MEASURES: Mapping[str, tuple[tuple[str, Keys], ...]] = {
    "banking77": (("accuracy", _EXACT),),
    "clinc_domain": (("accuracy", _EXACT),),
    "clinc_intent": (("accuracy", _EXACT),),
    "dialogue_state": (
        ("joint goal accuracy", _EXACT),
        ("slot F1", ("fields", "/*/slots/*", "field_f1")),
    ),
    "film_record": (("leaf F1", _F1),),
    "fixture_nested": (("leaf F1", _F1), ("exact match", _EXACT)),
    "format_repair": (("parse rate", ("parse_rate",)), ("exact match", _EXACT)),
    "gsm8k": (("final-number accuracy", _EXACT),),
    "ingredient_list": (("leaf F1", _F1),),
    "ner_biomedical": (("entity F1", _F1),),
    "ner_emerging": (("entity F1", _F1),),
    "recipe_nested": (("leaf F1", _F1),),
    "strategyqa_facts": (("accuracy", _EXACT),),
    "table_qa": (("denotation accuracy", _EXACT),),
    "table_write": (("cell F1", _F1), ("exact match", _EXACT)),
    "voice_command": (
        ("intent accuracy", ("fields", "/intent", "exact_match")),
        ("slot F1", ("below", SLOTS)),
    ),
}
_OTHERS = (("field F1", _F1), ("exact match", _EXACT))
_KEPT = (
    "rows", "exact_match", "field_f1", "parse_rate", "failed", "failures", "passes_per_row",
    "tokens_per_row", "tokens_per_pass", "rows_per_s", "seconds", "fields", "calibration",
)  # fmt: skip


def report(
    options: argparse.Namespace,
    parts: Sequence[Found],
    lines: Mapping[str, str],
    adapter: Mapping[str, str] | None,
) -> dict[str, Any]:
    """The JSON object. `parts` are the finished (task, engine) pairs, `lines` the health lines of the engines."""
    tasks: dict[str, dict[str, Any]] = {}
    for part in sorted(parts, key=lambda part: str(part["identity"]["task"])):
        identity = part["identity"]
        tasks.setdefault(identity["task"], {})[identity["engine"]] = _cell(options, part)
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"processor": processor(), "cpus": os.cpu_count()},
        "versions": versions("carrara", "torch", "llguidance"),
        "split": options.split,
        "seed": options.seed,
        "seconds_per_task": options.seconds,
        "concurrency": options.concurrency,
        "adapter": adapter,
        "engines": {
            name: _engine(line, [p for p in parts if p["identity"]["engine"] == name])
            for name, line in lines.items()
        },
        "tasks": tasks,
    }


def _cell(options: argparse.Namespace, part: Found) -> dict[str, Any]:
    """One task on one engine. Times: `alone` one answer at a time, `together` with others in the batch."""
    summary = part["summary"]
    measures = _MEASURES.get(part["identity"]["task"], _OTHERS)
    return {
        "measures": {name: _at(summary, keys) for name, keys in measures},
        **{name: summary[name] for name in _KEPT},
        "ms_per_answer": {
            "alone": part["alone"],
            "together": {"at_once": options.concurrency, **summary["ms_per_answer"]},
        },
    }


def _engine(line: str, parts: Sequence[Found]) -> dict[str, Any]:
    """Over all tasks: whether confidence tells right rows from wrong ones; and both steps of the chain right."""
    judged: list[Judged] = [
        (sure, right) for part in parts for _, sure, right in part["rows"] if sure is not None
    ]
    area = auroc(judged)
    return {
        "line": line,
        "fingerprint": parts[0]["identity"]["fingerprint"] if parts else None,
        "rows": sum(len(part["rows"]) for part in parts),
        "confidence": {
            "rows": len(judged),
            "auroc": None if area is None else round(area, 4),
            "ece": round(ece(judged), 4) if judged else None,
        },
        "clinc_chain_accuracy": _chain(parts),
    }


def _chain(parts: Iterable[Found]) -> float | None:
    """The share of the requests that both steps were given for which domain and intent are right."""
    right: dict[str, dict[str, bool]] = {}
    for part in parts:
        right[part["identity"]["task"]] = {
            key.rpartition("-")[2]: exact for key, _, exact in part["rows"]
        }
    domains, intents = right.get("clinc_domain", {}), right.get("clinc_intent", {})
    both = domains.keys() & intents.keys()
    if not both:
        return None
    return round(sum(domains[key] and intents[key] for key in both) / len(both), 4)


def tables(found: Found) -> str:
    """Markdown: the measures of each task by engine, then passes and times, then confidence."""
    names = list(found["engines"])
    quality = [
        [task, str(min(cell["rows"] for cell in cells.values())), measure]
        + [_share(cells[name]["measures"][measure]) if name in cells else "" for name in names]
        + [_share(min(cell["parse_rate"] for cell in cells.values()))]
        for task, cells in found["tasks"].items()
        for measure in next(iter(cells.values()))["measures"]
    ]
    speed = [
        [task, *(_speed(cells[name]) if name in cells else "" for name in names)]
        for task, cells in found["tasks"].items()
    ]
    sure = [
        [
            name,
            str(one["rows"]),
            _share(one["confidence"]["auroc"]),
            _share(one["confidence"]["ece"]),
        ]
        for name, one in found["engines"].items()
    ]
    return "\n\n".join(
        [
            _table(["task", "rows", "measure", *names, "parse rate, lowest"], quality),
            "Passes a row, tokens a pass, and milliseconds of an answer alone (median, 95th percentile):",
            _table(["task", *names], speed),
            "Confidence against the whole answer being right, over all tasks:",
            _table(["engine", "rows", "AUROC", "ECE, 10 bins"], sure),
            _origin(found),
        ]
    )


def _speed(cell: Found) -> str:
    alone, tokens = cell["ms_per_answer"]["alone"], cell["tokens_per_pass"]
    each = "-" if tokens is None else f"{tokens:.1f}"
    return f"{cell['passes_per_row']:.1f} / {each} / {alone['median']:.0f} ({alone['p95']:.0f})"


def _origin(found: Found) -> str:
    machine, adapter = found["machine"], found["adapter"]
    weights = "no adapter" if adapter is None else f"adapter {adapter['fingerprint']}"
    return (
        f"{found['split']} rows drawn with seed {found['seed']}; {machine['cpus']} cores of "
        f"{machine['processor']}, torch {found['versions']['torch']}, {weights}; {found['when'][:10]}."
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _at(found: Any, keys: Keys) -> Any:
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found
