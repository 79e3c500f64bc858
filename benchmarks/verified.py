"""The engine "verified" against "ar" on the embedded model: the same prompts, one after the other, in one run.

    python benchmarks/verified.py [--prompts 138] [--tokens 40] [--batch 8] [--threads N] [--no-quick]

Prints one JSON object. The prompts are the messages and recipes of `examples/`, under every kind of contract. Each goes
through all engines in turn, so that a busy moment hits all of them. "adaptive" drafts where that was worth its time,
"drafting" always, in 1 denoising pass a window. "told" drafts what "ar" wrote, without denoising: the most that any
denoiser could gain, with wide verifying passes. "together" are the adaptive answers of --batch requests at once.
Tokens and passes are those after the prompt, denoising passes included; an answer is equal if text, value and reason
for the end are those of "ar"; confidences are compared on their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, versions
from carrara.engines.autoregressive.local import AutoregressiveEngine
from carrara.engines.contract import Choice, Column, Contract, Json, Outline, Regex, Table, Text
from carrara.engines.diffusion.prepare import CanvasMaker
from carrara.engines.diffusion.settings import Settings
from carrara.engines.engine import Engine
from carrara.engines.local import LocalModel
from carrara.engines.request import Completion, Limits, Message, Request
from carrara.engines.verified.answer import VerifiedAnswer
from carrara.engines.verified.draft import Draft, Piece
from carrara.engines.verified.drafting import Drafter
from carrara.engines.verified.engine import VerifiedEngine
from carrara.engines.verified.worth import Way

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTE = {
    "type": "object",
    "properties": {
        "topic": {"type": "string", "maxLength": 30},
        "place": {"anyOf": [{"type": "string", "maxLength": 30}, {"type": "null"}]},
        "is_question": {"type": "boolean"},
        "urgency": {"enum": ["low", "normal", "high"]},
    },
    "required": ["topic", "place", "is_question", "urgency"],
}
RECIPE = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 60},
        "servings": {"anyOf": [{"type": "string", "maxLength": 20}, {"type": "null"}]},
        "ingredients": {
            "type": "array",
            "items": {"type": "string", "maxLength": 40},
            "minItems": 1,
            "maxItems": 4,
        },
    },
    "required": ["title", "servings", "ingredients"],
}


def prompts() -> list[Request]:
    """Every message under a choice, a record and free text; every recipe under all the other contracts."""
    found: list[Request] = []
    domains = json.loads((EXAMPLES / "inbox/intents.json").read_text(encoding="utf-8"))["intents"]
    listed = ", ".join(domains)
    for line in (EXAMPLES / "inbox/messages.jsonl").read_text(encoding="utf-8").splitlines():
        said = json.loads(line)["text"]
        found += [
            ask(
                f"Which domain is this about? One of: {listed}.\n\nRequest: {said}",
                Choice(tuple(domains)),
            ),
            ask(
                f"Extract topic, place, is_question and urgency as JSON.\n\nText: {said}",
                Json.of(NOTE),
            ),
            ask(f"Write a one-sentence reply to a customer who said: {said}", Text()),
        ]
    columns = (Column("item"), Column("quantity"))
    for page in sorted((EXAMPLES / "cookbook/recipes").glob("*.txt")):
        text = page.read_text(encoding="utf-8")
        found += [
            ask(f"Extract title, servings and ingredients as JSON.\n\n{text}", Json.of(RECIPE)),
            ask(f"Write the first ingredients as a table.\n\n{text}", Table(columns, 1, 3)),
            ask(f"List what one needs and what one does.\n\n{text}", Outline(2, 1, 4)),
            ask(
                f"How long does it take? For example: 1 h 20 min.\n\n{text}",
                Regex(r"(\d+ h )?\d+ min"),
            ),
        ]
    return found


def ask(text: str, output: Contract) -> Request:
    return Request((Message("user", text),), output, Limits())


class Told(Drafter):
    """Drafts the answers that it was told, by the user's message."""

    answers: Mapping[str, str]

    def begin(self, answer: VerifiedAnswer, way: Way) -> None:
        raw = self.answers[answer.request.messages[-1].content].encode()
        if answer.is_text:
            raw = raw[len(answer.raw) : len(answer.raw) + 120]
        tokenizer = self._local.tokenizer
        answer.draft = Draft(tokenizer.encode, tokenizer.vocabulary)
        answer.draft.extend(Piece(0, bytes([byte])) for byte in raw)
        if not answer.is_text:
            answer.draft.follow(answer.raw, len(answer.raw))


class ToldEngine(VerifiedEngine):
    def __init__(self, local: LocalModel) -> None:
        super().__init__(local, ways=(1,))
        self.answers: dict[str, str] = {}

    def _drafter(self, maker: CanvasMaker, settings: Settings) -> Drafter:
        told = Told(self.local, maker, settings, settings)
        told.answers = self.answers
        return told


@dataclass
class Side:
    """What one engine did, answer by answer."""

    answers: list[Completion] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    async def take(self, engine: Engine, request: Request) -> None:
        begun = time.perf_counter()
        self.answers.append(await engine.complete(request))
        self.seconds.append(time.perf_counter() - begun)

    def report(self, other: Side | None = None) -> dict[str, Any]:
        tokens = sum(one.usage.completion_tokens for one in self.answers)
        passes = sum(one.usage.passes for one in self.answers)
        found = {
            "answers": len(self.answers),
            "tokens_per_answer": round(tokens / len(self.answers), 2),
            "passes_per_answer": round(passes / len(self.answers), 2),
            "tokens_per_pass": round(tokens / max(1, passes), 3),
            "ms_per_answer": {
                "mean": round(1000 * statistics.mean(self.seconds), 1),
                "median": round(1000 * statistics.median(self.seconds), 1),
            },
        }
        return found if other is None else found | equality(other.answers, self.answers)


def equality(wanted: list[Completion], found: list[Completion]) -> dict[str, Any]:
    pairs = list(zip(wanted, found, strict=True))
    return {
        "equal_answers": sum(seen(one) == seen(other) for one, other in pairs),
        "equal_confidences": sum(one.confidence == other.confidence for one, other in pairs),
    }


def seen(answer: Completion) -> tuple[Any, ...]:
    return answer.text, answer.value, answer.stop


async def measured(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    dtype = getattr(torch, options.dtype) if options.dtype else None
    local = LocalModel.open(
        options.model, dtype=dtype, threads=options.threads, quick=None if options.quick else False
    )
    requests = prompts()
    random.Random(options.seed).shuffle(requests)
    limits = Limits(max_tokens=options.tokens)
    requests = [replace(request, limits=limits) for request in requests[: options.prompts]]
    sides = {name: Side() for name in ("ar", "adaptive", "drafting", "told")}
    async with (
        AutoregressiveEngine(local) as ar,
        VerifiedEngine(local) as adaptive,
        VerifiedEngine(local, ways=(1,)) as drafting,
        ToldEngine(local) as told,
    ):
        engines: dict[str, Engine] = {
            "ar": ar,
            "adaptive": adaptive,
            "drafting": drafting,
            "told": told,
        }
        for number, request in enumerate(requests):
            # From here on the prompt is in the prefix cache, for all alike.
            await ar.complete(replace(request, limits=Limits(max_tokens=1)))
            await sides["ar"].take(ar, request)
            told.answers[request.messages[-1].content] = sides["ar"].answers[-1].text
            for name in ("adaptive", "drafting", "told"):
                await sides[name].take(engines[name], request)
            if number % 10 == 9:
                print(f"{number + 1} of {len(requests)} prompts", file=sys.stderr, flush=True)
        tallies = {name: tally(engines[name]) for name in ("adaptive", "drafting", "told")}
        together = await crowd(adaptive, requests, options.batch)
        line, threads = local.line, await local.run(torch.get_num_threads)
        adapter = local.adapter and local.adapter.name
    by_kind = {
        kind: {name: only(side, requests, kind) for name, side in sides.items()}
        for kind in ("text", "choice", "json", "table", "outline", "regex")
    }
    return {
        "model": line,
        "adapter": adapter,
        "machine": machine(threads),
        "versions": versions("torch"),
        "seed": options.seed,
        "ar": sides["ar"].report(),
        "adaptive": sides["adaptive"].report(sides["ar"]) | tallies["adaptive"],
        "drafting": sides["drafting"].report(sides["ar"]) | tallies["drafting"],
        "told": sides["told"].report(sides["ar"]) | tallies["told"],
        "together": {"batch": options.batch} | equality(sides["ar"].answers, together),
        "by_kind": {
            kind: {
                name: side.report(None if name == "ar" else found["ar"])
                for name, side in found.items()
            }
            for kind, found in by_kind.items()
            if found["ar"].answers
        },
    }


async def crowd(engine: Engine, requests: list[Request], batch: int) -> list[Completion]:
    """All requests, `batch` of them at a time."""
    found: list[Completion] = []
    for start in range(0, len(requests), batch):
        found += await asyncio.gather(*map(engine.complete, requests[start : start + batch]))
    return found


def only(side: Side, requests: list[Request], kind: str) -> Side:
    places = [n for n, request in enumerate(requests) if request.output.kind == kind]
    return Side([side.answers[n] for n in places], [side.seconds[n] for n in places])


def tally(engine: Engine) -> dict[str, Any]:
    """How many of the decisions that drafts guessed were right, and the passes by what they were for."""
    assert isinstance(engine, VerifiedEngine)
    found = engine.tally
    assert found is not None
    return {
        "drafted": found.drafted,
        "accepted": found.accepted,
        "acceptance": round(found.accepted / max(1, found.drafted), 3),
        "draft_passes": found.draft_passes,
        "verifying_passes": found.verifying_passes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=138)
    parser.add_argument("--tokens", type=int, default=40, help="of each answer at most")
    parser.add_argument("--batch", type=int, default=8, help="requests at once in the second part")
    parser.add_argument("--model", default="smollm2", help="a name or a folder")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default=None)
    parser.add_argument(
        "--no-quick", dest="quick", action="store_false", help="no int8 weights for answer tokens"
    )
    parser.add_argument("--seed", type=int, default=0)
    print(json.dumps(asyncio.run(measured(parser.parse_args())), indent=2))


if __name__ == "__main__":
    main()
