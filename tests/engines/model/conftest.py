"""Golden models: tiny checkpoints and what the public reference computes with them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from carrara.engines.model.llama import Llama
from carrara.engines.model.load import load_model

GOLDENS = Path(__file__).parents[2] / "goldens"


@dataclass
class Golden:
    folder: Path

    @cached_property
    def model(self) -> Llama:
        return load_model(self.folder)

    @cached_property
    def cases(self) -> dict[str, dict[str, Any]]:
        found = json.loads((self.folder / "cases.json").read_text())
        return {case["name"]: case for case in found["forward"] + found["decode"]}

    @cached_property
    def _arrays(self) -> dict[str, Tensor]:
        return load_file(self.folder / "cases.safetensors")

    def array(self, case: str, name: str) -> Tensor:
        found = self._arrays[self.cases[case]["arrays"][name]]
        return found if found.is_floating_point() else found.long()


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    known: dict[str, Golden] = {}

    def of(family: str) -> Golden:
        return known.setdefault(family, Golden(GOLDENS / family))

    return of


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
