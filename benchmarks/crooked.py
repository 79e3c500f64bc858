"""Collect what the embedded model writes when it is asked for tables, lists and JSON in plain text, and count faults.

    python benchmarks/crooked.py [--output FILE.jsonl] [--model smollm2] [--tokens 90] [--only SOURCE]

Each source answers each prompt once, as free text without any grammar: the AR engine greedily, the same at temperature
0.8, the same through the embedded adapter, and the diffusion engine on the plain weights, since the adapter was not
trained on free text and the engine refuses it there. A row of the output holds the source, the prompt, the text as it
came, why it stopped, the rules of the repairs that it needed, and the repaired text. The summary on standard output is
one JSON object: for each source and form how many answers had the form at all, and how many had each fault. The rows
are read by the tests as a corpus of real faults: read through the repaired texts before they are taken for right.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from carrara.engines.autoregressive.local import AutoregressiveEngine
from carrara.engines.diffusion.engine import DiffusionEngine
from carrara.engines.local import LocalModel
from carrara.engines.request import Limits, Message, Request, Sampling
from carrara.runtime.repair import repair

SEED = 1
SUBJECTS = (
    "planets and their moons", "tools in a kitchen and what they are for", "rivers and their lengths",
    "steps to change a bicycle tyre", "animals and what they eat", "three cities, their countries and populations",
    "the tasks of a harbour master", "things to pack for a mountain hike",
)  # fmt: skip
FORMS = {
    "table": "Write a Markdown table with three columns about {}.",
    "list": "Write a nested Markdown list with numbers and bullets about {}.",
    "json": "Write a JSON array of objects with three keys each about {}. Write only JSON.",
}
SOURCES = ("ar", "ar warm", "ar adapter", "diffusion")
JSON = re.compile(r"[{\[]\s*[\"'{\[]")
TABLE = re.compile(r"(?m)^[^\n]*\|[^\n]*\|")
LIST = re.compile(r"(?m)^[ \t]*(?:[-*+•]|\d+[.)])[ \t]*\S")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=90)
    parser.add_argument("--only", choices=SOURCES)
    given = parser.parse_args()
    sources = (given.only,) if given.only else SOURCES
    rows = asyncio.run(collect(given.model, given.tokens, sources))
    if given.output is not None:
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        given.output.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(json.dumps(summary(rows), indent=2))


async def collect(model: str, tokens: int, sources: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for source in sources:
        adapted = source == "ar adapter"
        local = LocalModel.open(model) if adapted else LocalModel.open(model, adapter=None)
        kind = DiffusionEngine if source == "diffusion" else AutoregressiveEngine
        sampling = Sampling(temperature=0.8, seed=SEED) if source == "ar warm" else Sampling()
        async with kind(local) as engine:
            name = local.adapter.name if adapted and local.adapter else None
            asked = [(f, p.format(subject)) for f, p in FORMS.items() for subject in SUBJECTS]
            answers = await asyncio.gather(
                *(
                    engine.complete(
                        Request(
                            (Message("user", prompt),),
                            limits=Limits(max_tokens=tokens),
                            sampling=sampling,
                            adapter=name,
                        )
                    )
                    for _, prompt in asked
                )
            )
        for (form, prompt), answer in zip(asked, answers, strict=True):
            rows.append(row(source, form, prompt, answer.text, answer.stop))
        print(f"{source}: {len(asked)} answers", file=sys.stderr, flush=True)
    return rows


def row(engine: str, form: str, prompt: str, text: str, stop: str) -> dict[str, Any]:
    report = repair(text, form)
    rules = [part for edit in report.edits for part in edit.rule.split("+")]
    return {
        "engine": engine, "form": form, "prompt": prompt, "stop": stop, "text": text,
        "rules": rules, "repaired": report.text, "left": [p.reason for p in report.problems],
    }  # fmt: skip


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Per source and form: answers, those with the form in them, and of these those at fault, those in which a fault is
    left, and how many have each fault."""
    found: dict[str, Any] = {}
    for engine in dict.fromkeys(r["engine"] for r in rows):
        for form, sign in (("table", TABLE), ("list", LIST), ("json", JSON)):
            mine = [r for r in rows if r["engine"] == engine and r["form"] == form]
            formed = [r for r in mine if sign.search(r["text"])]
            faults: Counter[str] = Counter()
            for r in formed:
                faults.update(set(r["rules"]))
            found[f"{engine}, {form}"] = {
                "answers": len(mine),
                "with the form": len(formed),
                "cut by the limit": sum(r["stop"] == "length" for r in mine),
                "at fault": sum(bool(r["rules"]) or bool(r["left"]) for r in formed),
                "not mended": sum(bool(r["left"]) for r in formed),
                "answers by fault": dict(faults.most_common()),
            }
    return found


if __name__ == "__main__":
    main()
