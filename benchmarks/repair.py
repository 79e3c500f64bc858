"""How fast a form is checked and mended, beside a parser of the same text, json-repair and mdformat. Prints JSON.

    python benchmarks/repair.py [--quick]

Clean and broken pages of two kilobytes and JSON records are made from a seed. Each number is the best of three
turns, all tools in turns in one process. The growth is the processor time for 1 MB of a text made to be hard by that
for 100 kB.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from carrara.runtime.repair import repair, repair_text  # noqa: E402

SEED, PAGES, TURNS = 7, 40, 3
WORDS = (
    "harbour",
    "crane",
    "pallet",
    "ledger",
    "tide",
    "anchor",
    "cargo",
    "pilot",
    "quay",
    "winch",
    "deck",
    "hull",
)
HARD = {
    "markdown": {
        "pipes": "| a | b\n",
        "merged rows": "| a | b |\n|---|\n| 1 || 2 |\n\n",
        "nested lists": "1. a\n  - b\n* c\n",
        "glued numbers": "1. a 2. b ",
        "open fences": "```\ncode\n``\n\n## H\n\n",
        "backticks": "`" * 7 + "|",
        "quotations": "> > - a\n",
        "one line": "word | ",
    },
    "json": {
        "faults": '{"a": "x" "b": [1, 2}, ',
        "open strings": '{"a": "x\n',
        "open brackets": "[{",
        "bare words": "{a: b c, ",
        "quotes": '"',
        "restarts": '"a": ',
        "one string": "a b ",
    },
}
DAMAGE = {
    "markdown": (
        (" |\n| ", " || "), ("- ", "-"), ("## ", "##"), (" |\n|---", " | |---"), ("2. ", "1. "), ("\n\n## ", " ## "),
    ),
    "json": (('",', '"'), ('": ', '" '), ("true", "True"), ("}", "},"), ('"', "'"), ("],", ",")),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave the texts of 1 MB out")
    quick = parser.parse_args().quick
    chance = random.Random(SEED)
    pages = [page(chance) for _ in range(PAGES)]
    records = [record(chance) for _ in range(PAGES)]
    broken_pages = [broken(text, "markdown", chance) for text in pages]
    broken_records = [broken(text, "json", chance) for text in records]
    found: dict[str, object] = {
        "clean_markdown": speeds(pages, markdown_tools()),
        "broken_markdown": speeds(broken_pages, markdown_tools()),
        "clean_json": speeds(records, json_tools()),
        "broken_json": speeds(
            broken_records, {k: v for k, v in json_tools().items() if k != "json.loads"}
        ),
        "mended": {
            "markdown": share(broken_pages, "mixed"),
            "json": share(broken_records, "json"),
        },
        "growth_1mb_by_100kb": {} if quick else growth(),
        "machine": {
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
            "processor": platform.processor() or platform.machine(),
            "seed": SEED,
            "turns": TURNS,
            "markdown-it-py": version("markdown-it-py"),
            "json-repair": version("json-repair"),
            "mdformat": version("mdformat"),
        },
    }
    print(json.dumps(found, indent=2))


Tool = Callable[[str], object]


def markdown_tools() -> dict[str, Tool]:
    import mdformat
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return {
        "repair_text": lambda text: repair_text(text, "mixed"),
        "repair": lambda text: repair(text, "mixed"),
        "markdown-it-py parse": parser.parse,
        "mdformat": lambda text: mdformat.text(text, extensions={"gfm"}),
    }


def json_tools() -> dict[str, Tool]:
    from json_repair import repair_json

    return {
        "repair_text": lambda text: repair_text(text, "json"),
        "repair": lambda text: repair(text, "json"),
        "json.loads": json.loads,
        "json-repair": repair_json,
    }


def speeds(texts: Sequence[str], tools: dict[str, Tool]) -> dict[str, float]:
    """MB a second of each tool, and what `repair_text` makes of the tool's speed."""
    size = sum(len(text.encode()) for text in texts) / 1e6
    best = dict.fromkeys(tools, float("inf"))
    for _ in range(TURNS):
        for name, tool in tools.items():
            began = perf_counter()
            for text in texts:
                tool(text)
            best[name] = min(best[name], perf_counter() - began)
    found = {f"{name}, MB/s": round(size / taken, 3) for name, taken in best.items()}
    ours = best["repair_text"]
    ratios = {
        f"times {name}": round(taken / ours, 2)
        for name, taken in best.items()
        if name != "repair_text"
    }
    return found | ratios


def share(texts: Sequence[str], kind: str) -> float:
    """The share of these texts in which no fault is left."""
    return round(sum(repair(text, kind).ok for text in texts) / len(texts), 3)


def growth() -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for form, patterns in HARD.items():
        for name, piece in patterns.items():
            kind = "json" if form == "json" else "mixed"
            small, large = (
                timed(piece * (size // len(piece)), kind) for size in (100_000, 1_000_000)
            )
            found[f"{form}: {name}"] = {
                "s_100kb": round(small, 3),
                "s_1mb": round(large, 3),
                "growth": round(large / max(small, 0.001), 1),
            }
    return found


def timed(text: str, kind: str) -> float:
    """The shortest of three turns, or of one that takes long."""
    best = float("inf")
    for _ in range(TURNS):
        began = process_time()
        repair_text(text, kind)
        best = min(best, process_time() - began)
        if best > 1:
            break
    return best


def page(chance: random.Random) -> str:
    """A page with prose, a table, a list, and code."""

    def some(number: int) -> str:
        return " ".join(chance.choice(WORDS) for _ in range(number))

    parts = [f"# {some(3).title()}", some(60).capitalize() + "."]
    for _ in range(2):
        columns = chance.randint(2, 5)
        head = "| " + " | ".join(some(1) for _ in range(columns)) + " |"
        lines = [head, "|" + "---|" * columns]
        lines += ["| " + " | ".join(some(2) for _ in range(columns)) + " |" for _ in range(6)]
        parts += [f"## {some(2).title()}", "\n".join(lines)]
        items = []
        for number in range(1, 5):
            items.append(f"{number}. {some(4)}")
            items += [f"   - {some(5)}" for _ in range(2)]
        parts += [some(40).capitalize() + ".", "\n".join(items)]
        parts += ["```sh\n" + some(8) + " | " + some(2) + "\n```"]
    return "\n\n".join(parts) + "\n"


def record(chance: random.Random) -> str:
    def some(number: int) -> str:
        return " ".join(chance.choice(WORDS) for _ in range(number))

    rows = [
        {
            "id": chance.randint(1, 9999),
            "name": some(2),
            "note": some(8) + ', "so" it is',
            "tags": [some(1) for _ in range(3)],
            "place": {"lat": round(chance.uniform(-90, 90), 4), "open": chance.random() < 0.5},
        }
        for _ in range(8)
    ]
    return json.dumps(rows, indent=2)


def broken(text: str, form: str, chance: random.Random) -> str:
    """The text with one fault, at one of the places where it can be."""
    for old, new in chance.sample(DAMAGE[form], len(DAMAGE[form])):
        places = [n for n in range(len(text)) if text.startswith(old, n)]
        if places:
            at = chance.choice(places)
            return text[:at] + new + text[at + len(old) :]
    return text


if __name__ == "__main__":
    main()
