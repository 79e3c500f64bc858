"""A training that begins with an adapter: what it begins with is what was written, and nothing else is taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from carrara.engines.adapt.checkpoint import read_state
from carrara.engines.adapt.export import export, lora_tensors
from carrara.engines.adapt.job import TRAINING, Order, adapt, settings_of
from carrara.engines.adapt.network import Network
from carrara.engines.adapt.recipe import Recipe
from carrara.engines.adapt.start import begin_with
from carrara.engines.adapt.train import Training
from carrara.engines.errors import LoadingError
from carrara.engines.model.load import load_model
from carrara.engines.model.lora import CONFIG_FILE, WEIGHTS_FILE
from tests.engines.adapt.conftest import SMALL


@pytest.fixture
def trained(make: Callable[..., Training], tiny_folder: Path, tmp_path: Path) -> Path:
    """The adapter that a few steps leave."""
    training = make(steps=2)
    assert training.run()
    out = tmp_path / "adapter"
    export(training.network, tiny_folder, out, "m", settings_of(training.network.recipe), (4, 3))
    return out


def network(tiny_folder: Path, **numbers: Any) -> Network:
    recipe = Recipe.of({**SMALL, **numbers})
    stored = torch.float32
    return Network(load_model(tiny_folder, stored), recipe, stored)


def test_it_begins_with_the_values_of_the_adapter(trained: Path, tiny_folder: Path) -> None:
    fresh = network(tiny_folder, seed=7)
    begin_with(fresh, trained)
    found, written = lora_tensors(fresh), load_file(trained / WEIGHTS_FILE)
    assert found.keys() == written.keys()
    assert all(torch.equal(found[name], written[name]) for name in found)
    assert any(value.abs().max() > 0 for name, value in written.items() if "lora_B" in name)


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ({"rank": 2}, "rank 4 and alpha 8, the recipe has 2 and 8"),
        ({"alpha": 4.0}, "rank 4 and alpha 8, the recipe has 4 and 4"),
        ({"method": "full"}, "of method 'lora'"),
    ],
)
def test_another_recipe_is_refused(
    trained: Path, tiny_folder: Path, numbers: dict[str, Any], told: str
) -> None:
    with pytest.raises(LoadingError, match=told):
        begin_with(network(tiny_folder, **numbers), trained)


def test_projections_with_an_a_of_their_own_are_refused(trained: Path, tiny_folder: Path) -> None:
    tensors = load_file(trained / WEIGHTS_FILE)
    name = next(name for name in tensors if "k_proj.lora_A" in name)
    tensors[name] = tensors[name] + 1
    save_file(tensors, trained / WEIGHTS_FILE)
    with pytest.raises(LoadingError, match="has an A of its own"):
        begin_with(network(tiny_folder), trained)


def test_an_adapter_of_some_projections_is_refused(trained: Path, tiny_folder: Path) -> None:
    tensors = load_file(trained / WEIGHTS_FILE)
    save_file({k: v for k, v in tensors.items() if "down_proj" not in k}, trained / WEIGHTS_FILE)
    settings = json.loads((trained / CONFIG_FILE).read_text())
    settings["target_modules"].remove("down_proj")
    (trained / CONFIG_FILE).write_text(json.dumps(settings))
    with pytest.raises(LoadingError, match=r"down_proj' is in the adapter or in the model, not in"):
        begin_with(network(tiny_folder), trained)


def test_an_order_without_steps_left_hands_the_adapter_on(
    trained: Path, tiny_folder: Path, data: Path, tmp_path: Path
) -> None:
    recipe = Recipe.of({**SMALL, "steps": 3, "rank": 4})
    order = Order(str(tiny_folder), data, tmp_path / "on", recipe, minutes=0.0, start=trained)
    assert not adapt(order).done
    assert (tmp_path / "on" / WEIGHTS_FILE).read_bytes() == (trained / WEIGHTS_FILE).read_bytes()
    with pytest.raises(LoadingError, match="no-such"):
        adapt(Order(str(tiny_folder), data, tmp_path / "b", recipe, start=tmp_path / "no-such"))


def test_a_training_that_goes_on_still_says_what_it_began_with(
    trained: Path, tiny_folder: Path, data: Path, tmp_path: Path
) -> None:
    recipe = Recipe.of({**SMALL, "steps": 3, "rank": 4})
    out = tmp_path / "on"
    adapt(Order(str(tiny_folder), data, out, recipe, minutes=0.0, start=trained))
    adapt(Order(str(tiny_folder), data, out, resume=True, minutes=0.0))
    assert read_state(out / TRAINING / "checkpoint")["start"] == str(trained)
