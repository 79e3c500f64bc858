"""The benchmark of the router: its parts on scripted engines and on a faulty server of its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import routing, routing_faults
from benchmarks.routing_tasks import ROUTER
from carrara.engines.request import Completion, Confidence, Request
from carrara.engines.scripted import ScriptedEngine

DOMAINS = ("banking", "travel")


def row(task: str, number: int, gold: str) -> dict[str, Any]:
    return {"id": f"{task}-{number}", "task": task, "input": f"request {number}", "gold": gold}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for split in ("dev", "test"):
        folder = tmp_path / "data" / "clinc_domain"
        folder.mkdir(parents=True, exist_ok=True)
        rows = [row("clinc_domain", n, DOMAINS[n % 2]) for n in range(12)]
        lines = "".join(json.dumps(one) + "\n" for one in rows)
        (folder / f"{split}.jsonl").write_text(lines)
    return tmp_path / "data"


def right_when_sure(request: Request) -> Completion:
    number = int(request.messages[-1].content.split()[-1])
    sure = number % 3 > 0
    word = DOMAINS[(number if sure else number + 1) % 2]
    return Completion(word, confidence=Confidence(0.9 if sure else 0.4))


async def slowly_right(request: Request) -> str:
    await asyncio.sleep(0.05)
    return DOMAINS[int(request.messages[-1].content.split()[-1]) % 2]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names `diffusion`, `ar` and `llamacpp` open these."""
    replies = {"diffusion": right_when_sure, "ar": slowly_right, "llamacpp": slowly_right}

    def opened(names: Any, **_: Any) -> dict[str, ScriptedEngine]:
        return {name: ScriptedEngine(name, replies[name], can=("choice",)) for name in names}

    monkeypatch.setattr("carrara.engines.registry.open_engines", opened)


def measured(data: Path, out: Path, *words: str) -> dict[str, Any]:
    given = ["--data", str(data), "--out", str(out), "--tasks", "clinc_domain", *words]
    options = routing.arguments().parse_args(given)
    options.parts = out / "routing.parts.jsonl"
    return routing.measure(options)


@pytest.mark.usefixtures("scripted")
def test_the_router_is_as_good_as_the_best_engine_and_asks_it_less(
    data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    found = measured(data, out, "--part", "tasks", "--rows", "12", "--timed", "8")["table"]
    marks = found["tasks"]["clinc_domain"]["contestants"]
    assert {name: mark["value"] for name, mark in marks.items()} == {
        "diffusion": 0.6667,
        "ar": 1.0,
        "llamacpp": 1.0,
        ROUTER: 1.0,
    }
    assert marks[ROUTER]["answered_by"].get("diffusion") == 8
    assert found["summary"]["tasks"]["clinc_domain"]["loss_points"] == 0.0
    assert json.loads((out / "routing.json").read_text()) == found
    assert (out / "routing.png").stat().st_size > 0


@pytest.mark.usefixtures("scripted")
def test_what_was_measured_is_not_measured_again(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = measured(data, out, "--part", "tasks", "--rows", "4")["table"]
    again = measured(data, out, "--part", "tasks", "--rows", "4")["table"]
    assert again["tasks"] == first["tasks"]
    measured(data, out, "--part", "tasks", "--rows", "3")
    assert len((out / "routing.parts.jsonl").read_text().splitlines()) == 2


def test_under_a_faulty_server_every_record_ends_and_nothing_is_left() -> None:
    found = asyncio.run(routing_faults.one_run(("server",), 0.3, 0.1, 80, 0.02, 3))
    assert found["answered"] + sum(found["errors"].values()) == found["records"] == 80
    assert not [name for name in found["errors"] if name.startswith("not ours")]
    assert (found["wrong"], found["calls_left_open"]) == (0, 0)
    faults = sum(found["server"].values()) - found["server"]["answered"]
    assert faults > 20
