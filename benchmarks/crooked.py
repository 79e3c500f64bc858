"""Collect what the embedded model writes when it is asked for tables and lists in plain text, and count the faults.

    python benchmarks/crooked.py [--output FILE.jsonl] [--model smollm2] [--tokens 110] [--plain]

Each engine answers each prompt once, greedily, as free text. A row of the output holds the engine, the prompt, the
text as it came, why it stopped, the rules of the repairs that it needed, and the repaired text. The summary on standard
output is one JSON object: for each engine how many answers had a table or a list at all, and how many had each fault.
`--plain` leaves the adapter out. The rows are read by the tests as a corpus of real faults: read through the repaired
texts before they are taken for right.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from carrara.engines.autoregressive.local import AutoregressiveEngine
from carrara.engines.diffusion.engine import DiffusionEngine
from carrara.engines.local import LocalModel
from carrara.engines.request import Limits, Message, Request
from carrara.runtime.repair import repair

SUBJECTS = (
    "planets and their moons", "tools in a kitchen and what they are for", "rivers and their lengths",
    "steps to change a bicycle tyre", "animals and what they eat", "three cities, their countries and populations",
    "the tasks of a harbour master", "things to pack for a mountain hike",
)  # fmt: skip
FORMS = {
    "table": "Write a Markdown table with three columns about {}.",
    "list": "Write a nested Markdown list with numbers and bullets about {}.",
}
TABLE = re.compile(r"(?m)^[^\n]*\|[^\n]*\|")
LIST = re.compile(r"(?m)^[ \t]*(?:[-*+•]|\d+[.)])[ \t]*\S")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=110)
    parser.add_argument("--plain", action="store_true")
    given = parser.parse_args()
    rows = asyncio.run(collect(given.model, given.tokens, given.plain))
    if given.output is not None:
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        given.output.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(json.dumps(summary(rows), indent=2))


async def collect(model: str, tokens: int, plain: bool) -> list[dict[str, Any]]:
    local = LocalModel.open(model, adapter=None) if plain else LocalModel.open(model)
    rows = []
    for engine in (AutoregressiveEngine(local), DiffusionEngine(local)):
        async with engine:
            for form, prompt in FORMS.items():
                for subject in SUBJECTS:
                    asked = prompt.format(subject)
                    request = Request((Message("user", asked),), limits=Limits(max_tokens=tokens))
                    answer = await engine.complete(request)
                    rows.append(row(engine.name, form, asked, answer.text, answer.stop))
                    print(f"{engine.name}: {asked}", file=sys.stderr, flush=True)
    return rows


def row(engine: str, form: str, prompt: str, text: str, stop: str) -> dict[str, Any]:
    report = repair(text, form)
    rules = [part for edit in report.edits for part in edit.rule.split("+")]
    return {
        "engine": engine, "form": form, "prompt": prompt, "stop": stop, "text": text,
        "rules": rules, "repaired": report.text, "left": [p.reason for p in report.problems],
    }  # fmt: skip


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Per engine and form: answers, those with the form in them, those at fault, and how many have each fault."""
    found: dict[str, Any] = {}
    for engine in dict.fromkeys(r["engine"] for r in rows):
        for form, sign in (("table", TABLE), ("list", LIST)):
            mine = [r for r in rows if r["engine"] == engine and r["form"] == form]
            faults: Counter[str] = Counter()
            for r in mine:
                faults.update(set(r["rules"]))
            found[f"{engine}, {form}"] = {
                "answers": len(mine),
                "with the form": sum(sign.search(r["text"]) is not None for r in mine),
                "cut by the limit": sum(r["stop"] == "length" for r in mine),
                "at fault": sum(bool(r["rules"]) for r in mine),
                "answers by fault": dict(faults.most_common()),
            }
    return found


if __name__ == "__main__":
    main()
