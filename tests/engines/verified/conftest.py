"""Tiny models of random weights, random contracts, and both engines on one model."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from carrara.engines.autoregressive.local import AutoregressiveEngine
from carrara.engines.contract import Choice, Column, Contract, Json, Outline, Regex, Table, Text
from carrara.engines.local import LocalModel
from carrara.engines.model.llama import Llama
from carrara.engines.model.load import load_config, targets
from carrara.engines.verified.engine import VerifiedEngine

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
Body = Callable[[AutoregressiveEngine, VerifiedEngine], Awaitable[None]]


@pytest.fixture(scope="session")
def random_folder(
    tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Path]:
    """`random_folder(seed)` is a tiny model with random weights of its own, in sizes that int8 weights can have."""
    known: dict[int, Path] = {}

    def make(seed: int) -> Path:
        if seed not in known:
            folder = tmp_path_factory.mktemp("random") / "model"
            shutil.copytree(tiny_folder, folder)
            config = json.loads((folder / "config.json").read_text()) | SIZES
            (folder / "config.json").write_text(json.dumps(config))
            model = Llama.random(load_config(folder), seed=seed, spread=0.1 + 0.1 * (seed % 4))
            tensors = {name: tensor.clone() for name, tensor in targets(model).items()}
            save_file(tensors, folder / "model.safetensors")
            known[seed] = folder
        return known[seed]

    return make


@pytest.fixture(scope="session")
def with_pair() -> Callable[..., None]:
    """Run an async test body with both engines open: `with_pair(folder, body, quick=…, engine=…, ways=…)`."""

    def run(
        folder: Path,
        body: Body,
        quick: bool | None = None,
        engine: type[VerifiedEngine] = VerifiedEngine,
        **options: Any,
    ) -> None:
        async def main() -> None:
            local = LocalModel.open(folder, threads=1, quick=quick)
            limits = options.get("limits")
            verified = engine(local, **options)
            async with AutoregressiveEngine(local, limits=limits) as ar, verified:
                await body(ar, verified)

        asyncio.run(main())

    return run


@pytest.fixture(scope="session")
def random_contract() -> Callable[[random.Random], Contract]:
    """One of any kind, small enough for an answer of a few dozen tokens."""
    return _contract


def _contract(draw: random.Random) -> Contract:
    match draw.randrange(6):
        case 0:
            return Text()
        case 1:
            words = ["other", "another", "town", "the inn", "on", "one"]
            return Choice(tuple(draw.sample(words, draw.randint(2, 6))))
        case 2:
            return Json.of(_schema(draw, 2))
        case 3:
            kinds = ("string", "integer", "number", "boolean", "date")
            names = draw.sample(["n", "name", "the one", "b"], draw.randint(1, 3))
            columns = tuple(Column(name, draw.choice(kinds)) for name in names)  # type: ignore[arg-type]
            least = draw.randint(0, 2)
            return Table(columns, least, least + draw.randint(0, 2))
        case 4:
            least = draw.randint(1, 2)
            return Outline(draw.randint(1, 3), least, least + draw.randint(0, 2))
        case _:
            patterns = (
                r"[a-c]{3}-\d{2}",
                r"(on|in)( the town)+",
                r"\d+(\.\d\d)?",
                r"[a-z ]{0,30}x",
            )
            return Regex(draw.choice(patterns))


def _schema(draw: random.Random, depth: int) -> dict[str, Any]:
    plain: list[dict[str, Any]] = [
        {"type": "string", "maxLength": 12},
        {"type": "string"},
        {"type": "integer"},
        {"type": "boolean"},
        {"enum": ["x", "yy", "the town"]},
        {"anyOf": [{"type": "string", "maxLength": 8}, {"type": "null"}]},
    ]
    kind = draw.choice(["plain", "object", "object", "array"]) if depth else "plain"
    if kind == "array":
        return {"type": "array", "items": _schema(draw, depth - 1), "maxItems": 3}
    if kind == "object":
        names = draw.sample(["name", "number", "on", "q", "list"], draw.randint(1, 4))
        properties = {name: _schema(draw, depth - 1) for name in names}
        return {"type": "object", "properties": properties, "required": names}
    return draw.choice(plain)
