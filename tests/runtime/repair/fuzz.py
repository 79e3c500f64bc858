"""Fuzzing of the repair pass, run by hand: `python tests/runtime/repair/fuzz.py --minutes 30`.

Texts are the documents in `material`, damaged at random places, and random strings of structure characters, odd
Unicode, NULs, carriage returns, deep nesting and long lines. For each the invariants of `invariants` must hold, and
the time must stay below a bound that no linear scanner needs; a hang ends in a traceback. Exits 1 at the first
text that breaks one, which is left in fuzz-failure.json.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import random
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[3])]

from tests.runtime.repair.invariants import broken_invariant  # noqa: E402
from tests.runtime.repair.material import CLEAN  # noqa: E402

ALPHABET = "{}[]\",:'|-*+#`~>.)( \n\t\r\\/=_!<&0123456789aeixAZ éß中、：，“”‘’｜•–…\u2028\u00a0\0\U0001f600\u0301[MASK]"
PIECES = (
    "|---|---|", "| a | b |", "```", "~~~", "- [x] ", "1. ", "\n\n", "    ", '"a": ', "[MASK]", "<|mdm_mask|>", "\\|",
    "||", "| |", "## H", "<!--", "$$", "---\n", "\\\"", "}]", "//", "/*", "null", "True", "> ", "\t- ", "2) ", "•",
)  # fmt: skip
HANG_S = 60
KINDS = ("json", "table", "list", "mixed", "auto")


def damaged(text: str, chance: random.Random) -> str:
    """The text with one to six random changes: a span lost, doubled, moved, or something put in."""
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(text) + 1)
        end = min(len(text), at + chance.choice((1, 1, 1, 2, 5, 20)))
        match chance.randrange(6):
            case 0:
                text = text[:at] + text[end:]
            case 1:
                text = text[:end] + text[at:]
            case 2:
                text = text[:at] + chance.choice(ALPHABET) + text[at:]
            case 3:
                text = text[:at] + chance.choice(PIECES) + text[at:]
            case 4:
                text = text[:at] + chance.choice(ALPHABET) + text[end:]
            case 5:
                structure = [n for n, c in enumerate(text) if c in '\n|"{}[],:-`#']
                if structure:
                    place = chance.choice(structure)
                    text = text[:place] + text[place + 1 :]
    return text


def made(chance: random.Random) -> str:
    """A text of nothing but trouble."""
    match chance.randrange(6):
        case 0:
            return "".join(chance.choice(PIECES) for _ in range(chance.randint(1, 60)))
        case 1:
            return "".join(chance.choice(ALPHABET) for _ in range(chance.randint(0, 200)))
        case 2:
            return chance.choice(PIECES) * chance.choice((10, 100, 2000))
        case 3:
            return chance.choice("[{") * chance.choice((10, 1000, 10_000)) + made(chance)
        case 4:
            return "\n".join(" " * chance.randrange(8) + chance.choice(PIECES) for _ in range(30))
        case _:
            return (chance.choice(PIECES) + chance.choice(ALPHABET)) * chance.choice((5, 50, 500))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    ends, count, slowest = time.monotonic() + 60 * given.minutes, 0, 0.0
    while time.monotonic() < ends:
        kind, text = chance.choice(CLEAN)
        text = made(chance) if chance.random() < 0.25 else damaged(text, chance)
        kind = kind if chance.random() < 0.8 else chance.choice(KINDS)
        if chance.random() < 0.1:
            text = text.replace("\n", chance.choice(("\r\n", "\r")))
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        began = time.process_time()
        fault = broken_invariant(text, kind)
        took = time.process_time() - began
        slowest = max(slowest, took)
        if fault is None and took > 5 + len(text) / 20_000:
            fault = f"took {took:.1f} s for {len(text):,} characters"
        if fault is not None:
            told = {"fault": fault, "kind": kind, "size": len(text), "text": text}
            Path("fuzz-failure.json").write_text(json.dumps(told))
            print(json.dumps(told)[:1500])
            return 1
        count += 1
    print(json.dumps({"texts": count, "seed": given.seed, "slowest_s": round(slowest, 2)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
