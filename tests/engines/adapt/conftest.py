"""Labelled rows for the tiny model, and trainings of a few steps."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from carrara.engines.adapt.examples import Examples
from carrara.engines.adapt.feed import Feed, PoolMaker
from carrara.engines.adapt.network import Network
from carrara.engines.adapt.recipe import Recipe
from carrara.engines.adapt.rows import read_rows
from carrara.engines.adapt.train import Training
from carrara.engines.model.load import load_model
from carrara.engines.tokenizer import Tokenizer

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": ["string", "null"]},
        "towns": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "towns"],
}
ROWS: list[dict[str, Any]] = (
    [
        {
            "prompt": f"Who lives where? {name} lives in {', '.join(towns)}.",
            "response": {"name": name, "towns": towns},
            "contract": {"kind": "json", "schema": PERSON},
            "task": "people",
        }
        for name, towns in (
            ("Ann", ["Oslo"]),
            ("Bo", ["Rome", "Bern"]),
            (None, []),
            ("Cy", ["A", "B", "C", "D"]),
        )
    ]
    + [
        {
            "prompt": f"Is {word} red or blue?",
            "response": colour,
            "contract": {"kind": "choice", "options": ["red", "blue"]},
            "task": "colour",
        }
        for word, colour in (("blood", "red"), ("the sea", "blue"), ("a rose", "red"))
    ]
    + [{"prompt": "Say hello.", "response": "hello, the other one in the town", "task": "talk"}]
)

SMALL: dict[str, Any] = {
    "steps": 6, "step_tokens": 300, "row_tokens": 220, "most_tokens": 400, "rank": 4, "alpha": 8.0,
    "block_tokens": 48, "text_block_tokens": 8, "learning_rate": 5e-3,
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


@pytest.fixture
def make(tiny_folder: Path, data: Path, tmp_path: Path) -> Callable[..., Training]:
    """A training of the tiny model in float32: `make(folder, **recipe)`."""

    def training(folder: str = "out", workers: int = 0, **numbers: Any) -> Training:
        recipe = Recipe.of({**SMALL, **numbers})
        tokenizer = Tokenizer.from_folder(tiny_folder)
        maker = PoolMaker(list(read_rows(data)), Examples(tokenizer, recipe), recipe, 3.0)
        network = Network(load_model(tiny_folder), recipe, torch.float32)
        ids = (tokenizer.mask_id, tokenizer.slot_pad_id)
        return Training(network, Feed(maker, data, tiny_folder, ids, workers), tmp_path / folder)

    return training
