"""Adapters between two others: the ends are theirs, and what does not belong together is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from carrara.engines.adapt.blend import blend
from carrara.engines.adapt.export import export
from carrara.engines.adapt.job import settings_of
from carrara.engines.adapt.train import Training
from carrara.engines.errors import CarraraError, LoadingError
from carrara.engines.model.lora import WEIGHTS_FILE, load_adapter


@pytest.fixture
def ends(make: Callable[..., Training], tiny_folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    training = make()
    found = []
    for name in ("start", "trained"):
        for parameter in training.network.trained().values():
            torch.nn.init.normal_(parameter, std=0.1)
        export(
            training.network, tiny_folder, tmp_path / name, name, settings_of(training.network.recipe), (4, 3)
        )  # fmt: skip
        found.append(tmp_path / name)
    return found[0], found[1]


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_every_value_lies_between(ends: tuple[Path, Path], tmp_path: Path, share: float) -> None:
    out = tmp_path / "out"
    blend(*ends, out, share)
    first, second, found = (load_file(folder / WEIGHTS_FILE) for folder in (*ends, out))
    assert found.keys() == first.keys()
    for name, value in found.items():
        wanted = (1 - share) * first[name].float() + share * second[name].float()
        torch.testing.assert_close(value.float(), wanted, atol=2e-3, rtol=1e-2)
    assert load_adapter(out).name == "trained"


def test_what_does_not_belong_together_is_refused(
    ends: tuple[Path, Path], make: Callable[..., Training], tiny_folder: Path, tmp_path: Path
) -> None:
    other = make("other", rank=2, alpha=4.0).network
    export(other, tiny_folder, tmp_path / "other", "other", settings_of(other.recipe), (4, 3))
    with pytest.raises(LoadingError, match="other: its tensors are not those of"):
        blend(ends[0], tmp_path / "other", tmp_path / "out", 0.5)
    with pytest.raises(LoadingError, match="nowhere"):
        blend(ends[0], tmp_path / "nowhere", tmp_path / "out", 0.5)
    with pytest.raises(CarraraError, match="from 0 to 1"):
        blend(*ends, tmp_path / "out", 1.5)
    assert not (tmp_path / "out").exists()
