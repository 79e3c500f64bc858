"""The router under a server that fails a fifth of its calls and stalls one in twenty, beside the same server healthy.

    python -m benchmarks.routing --part faults [--out benchmarks/results/routing_faults.json]

The answers of the servers on loopback are right and come after a drawn time, so what is measured is the way to them:
real HTTP, time-outs, hedges, retries. Once the server stands alone, once a healthy one of half its speed stands behind
it. Every record must end in the right answer or a named error, and no call may be left open.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

from pydantic import BaseModel

import carrara
from benchmarks.fault_server import FaultServer
from carrara.engines.errors import CarraraError
from carrara.engines.remote.engine import RemoteEngine
from carrara.engines.remote.preset import Preset
from carrara.runtime.events import Event, Hedged, Rejected, StepRetrying
from carrara.runtime.routing.policy import Hedge, Policy, Rule
from carrara.workflows.batch import Outcome
from carrara.workflows.evaluate import evaluate_records
from carrara.workflows.evaluation import spread
from carrara.workflows.records import Record

FAILS, STALLS = 0.2, 0.05
HEDGE = Hedge(times=3.0, share=0.95)
READ_S = 20  # in usual times: when a silent server is given up where no hedge helped


class Order(BaseModel):
    """What the records ask for; the number tells them apart."""

    number: int
    item: str


@carrara.llm(max_tokens=64, retries=3)
def order(line: str) -> Order:
    """Extract number and item of the order as JSON: {{ line }}"""


@carrara.workflow
async def orders(line: str) -> Order:
    """One record."""
    return await order(line)


def records(count: int) -> Iterator[Record]:
    for number in range(count):
        gold = {"number": number, "item": f"item {number % 7}"}
        fields = {"line": f"order {number} of item {number % 7}", "gold": gold}
        yield Record(number, str(number), f"record {number}", fields)


def reply(prompt: str) -> str:
    found = re.search(r"order (\d+) of (item \d)", prompt)
    assert found is not None
    return json.dumps({"number": int(found[1]), "item": found[2]})


async def one_run(
    names: tuple[str, ...], fails: float, stalls: float, count: int, usual_s: float, seed: int
) -> dict[str, Any]:
    """All records through the engines called `names`, the first of them faulty."""
    told: Counter[str] = Counter()
    errors: Counter[str] = Counter()

    def listen(event: Event) -> None:
        if isinstance(event, Hedged | Rejected | StepRetrying):
            told[type(event).__name__] += 1

    def seen(outcome: Outcome) -> None:
        if outcome.error is not None:
            errors[_named(outcome.error)] += 1

    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                FaultServer(reply, usual_s, fails, stalls, seed)
                if number == 0
                else FaultServer(reply, 2 * usual_s, seed=seed + 1)
            )
            for number in range(len(names))
        ]
        engines = {
            name: RemoteEngine(name, _preset(server.url, usual_s))
            for name, server in zip(names, servers, strict=True)
        }
        policy = Policy(rules=(Rule(names),), hedge=HEDGE, again=2, choose="order", break_s=usual_s)
        async with carrara.session(engines=engines, policy=policy) as session:
            found = await evaluate_records(
                orders, records(count), session, concurrency=16, seen=seen, listeners=[listen]
            )
        for _ in range(5):
            await asyncio.sleep(0.01)  # the servers see that clients have left
        left = sum(server.open for server in servers)
        wrong = sum(not row.error and not row.score.exact for row in found.rows)
        return {
            "records": len(found.rows),
            "answered": sum(not row.error for row in found.rows),
            "wrong": wrong,
            "errors": dict(errors),
            "ms": spread([row.ms for row in found.rows]),
            "slowest_ms": round(max(row.ms for row in found.rows), 1),
            "hedges": told["Hedged"],
            "calls_without_answer": told["Rejected"],
            "retries_of_the_step": told["StepRetrying"],
            "server": dict(servers[0].met),
            "calls_left_open": left,
        }


async def measure(count: int, usual_s: float, seed: int) -> dict[str, Any]:
    """Healthy and faulty at the same time, for a busy machine slows both; with one server, and with one behind it."""
    found: dict[str, Any] = {}
    for label, names in (("alone", ("server",)), ("with_fallback", ("server", "other"))):
        before = len(asyncio.all_tasks())
        healthy, faulty = await asyncio.gather(
            one_run(names, 0.0, 0.0, count, usual_s, seed),
            one_run(names, FAILS, STALLS, count, usual_s, seed),
        )
        found[label] = {
            "healthy": healthy,
            "faulty": faulty,
            "p95_ratio": round(faulty["ms"]["p95"] / healthy["ms"]["p95"], 3),
            "tasks_left": len(asyncio.all_tasks()) - before,
        }
    return {
        "fails": FAILS,
        "stalls": STALLS,
        "usual_ms": usual_s * 1000,
        "concurrency": 16,
        **found,
        "holds": all(_holds(found[label]) for label in found),
    }


def _holds(found: Any) -> bool:
    faulty = found["faulty"]
    named = sum(faulty["errors"].values())
    return (
        faulty["answered"] + named == faulty["records"]
        and not (faulty["wrong"] or faulty["calls_left_open"] or found["tasks_left"])
        and found["p95_ratio"] < 2
    )


def _preset(url: str, usual_s: float) -> Preset:
    preset = Preset("drawn", "A server of this benchmark", "", model="drawn", key_required=False)
    data = {"base_url": url, "schema": "full", "timeouts": {"read_s": READ_S * usual_s}}
    return preset.but(data, "drawn")


def _named(error: BaseException) -> str:
    """The class of the error at the bottom; one that is none of ours is told as such."""
    while isinstance(error.__cause__, CarraraError):
        error = error.__cause__
    name = type(error).__name__
    return name if isinstance(error, CarraraError) else f"not ours: {name}"


__all__ = ["measure", "one_run"]
