"""One local model: loaded once, shared, used on its own thread, freed when the last user leaves."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from carrara.engines.errors import CarraraError, EngineRefused, LoadingError
from carrara.engines.local import BASE, LocalModel
from carrara.engines.model import opening
from carrara.engines.model.device import pick_device, pick_dtype
from carrara.engines.model.integer import can_be_integer
from carrara.engines.registry import open_engines


def adapter(folder: Path) -> Path:
    """A small adapter whose configuration names diffusion tokens."""
    folder.mkdir()
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {
        f"{name}.lora_A.weight": torch.ones(2, 72),
        f"{name}.lora_B.weight": torch.ones(72, 2),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"r": 2, "lora_alpha": 2, "target_modules": ["q_proj"], "mask_token_id": 3}
    (folder / "adapter_config.json").write_text(json.dumps(settings | {"slot_pad_token_id": 4}))
    return folder


def test_it_loads_with_the_first_user_and_is_freed_with_the_last(tiny_folder: Path) -> None:
    local = LocalModel.open(tiny_folder)

    async def main() -> None:
        async with local:
            model = local.model
            async with local:
                assert local.model is model
            assert local.is_loaded
        assert not local.is_loaded
        with pytest.raises(CarraraError, match="not loaded"):
            _ = local.model

    asyncio.run(main())
    asyncio.run(main())  # again, in another event loop


def test_users_who_enter_together_share_one_loading(tiny_folder: Path) -> None:
    local = LocalModel.open(tiny_folder)
    models = []

    async def use() -> None:
        async with local:
            await asyncio.sleep(0)
            models.append(local.model)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(use())

    asyncio.run(main())
    assert not local.is_loaded
    assert len(models) == 3


def test_work_runs_on_one_thread_that_is_not_the_callers(tiny_folder: Path) -> None:
    async def main() -> None:
        async with LocalModel.open(tiny_folder) as local:
            names = {await local.run(lambda: threading.current_thread().name) for _ in range(3)}
            assert len(names) == 1
            assert threading.current_thread().name not in names
            assert await local.run(lambda a, b=0: a + b, 1, b=2) == 3
        with pytest.raises(CarraraError, match="not open"):
            await local.run(int)

    asyncio.run(main())


def test_a_model_that_cannot_load_can_be_tried_again(tiny_folder: Path, tmp_path: Path) -> None:
    local = LocalModel.open(tmp_path / "model")

    async def main() -> None:
        with pytest.raises(LoadingError):
            async with local:
                pass
        (tmp_path / "model").symlink_to(tiny_folder)
        async with local:
            assert local.config.layers == 2

    asyncio.run(main())


def test_the_fingerprint_tells_precision_and_adapter(tiny_folder: Path, tmp_path: Path) -> None:
    found = adapter(tmp_path / "mine")

    async def main() -> None:
        seen = []
        plain = {"dtype": torch.float32}  # else it depends on the processor
        kinds = [{"dtype": torch.bfloat16}, {"quick": False}, {"adapter": found}]
        if can_be_integer(torch.device("cpu")):
            kinds.append({"quick": True})
        for options in ({}, *kinds):
            async with LocalModel.open(tiny_folder, **{**plain, **options}) as local:
                seen.append(local.fingerprint)
        async with LocalModel.open(tiny_folder, **plain) as again:
            assert again.fingerprint == seen[0]
        assert len(set(seen)) == len(seen)

    asyncio.run(main())


@pytest.mark.skipif(
    not can_be_integer(torch.device("cpu")), reason="this build of torch has no integer products"
)
def test_quick_canvases_are_asked_for_in_the_configuration_and_told(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "carrara.toml").write_text("[local]\nquick = true\n")
    monkeypatch.setenv("CARRARA_CONFIG", str(tmp_path / "carrara.toml"))

    async def line(**options: Any) -> str:
        engine = open_engines(
            ["diffusion"], source=tiny_folder, adapter=None, device="cpu", **options
        )["diffusion"]
        async with engine:
            return engine.health().line

    assert "and int8 canvases" in asyncio.run(line())
    assert "int8" not in asyncio.run(line(quick=False))
    (tmp_path / "carrara.toml").write_text("")
    assert "int8 canvases" not in asyncio.run(line())
    assert "int8 canvases" in asyncio.run(line(quick=True))


@pytest.mark.skipif(
    not can_be_integer(torch.device("cpu")), reason="this build of torch has no integer products"
)
def test_an_adapter_that_was_measured_so_has_quick_canvases_unless_they_are_declined(
    tiny_folder: Path, tmp_path: Path
) -> None:
    mine = adapter(tmp_path / "mine")
    settings = json.loads((mine / "adapter_config.json").read_text())
    (mine / "adapter_config.json").write_text(json.dumps(settings | {"quick": True}))

    async def line(found: Path | None, quick: bool | None) -> str:
        options: dict[str, Any] = {"adapter": found, "device": "cpu", "quick": quick}
        async with LocalModel.open(tiny_folder, **options) as local:
            return local.line

    assert "int8 canvases" in asyncio.run(line(mine, None))
    assert "int8 canvases" not in asyncio.run(line(mine, False))
    assert "int8 canvases" not in asyncio.run(line(None, None))


def test_quick_canvases_that_are_not_to_be_had_are_told(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "small_kind", lambda device, asked, measured: None)

    async def main() -> None:
        async with LocalModel.open(tiny_folder, device="cpu", quick=True) as local:
            assert "exact canvases: quick ones are not to be had here" in local.line

    asyncio.run(main())


def test_a_merged_adapter_serves_everybody_and_cannot_be_left_out(
    tiny_folder: Path, tmp_path: Path
) -> None:
    async def main() -> None:
        async with LocalModel.open(tiny_folder, adapter(tmp_path / "mine")) as local:
            info = local.adapter
            assert info is not None
            assert (info.name, info.merged, info.settings["mask_token_id"]) == ("mine", True, 3)
            assert (local.tokenizer.mask_id, local.tokenizer.slot_pad_id) == (3, 4)
            assert local.uses_adapter(None)
            assert local.uses_adapter("mine")
            with pytest.raises(EngineRefused, match="switchable"):
                local.uses_adapter(BASE)
            with pytest.raises(EngineRefused, match="no adapter 'other' is loaded, only 'mine'"):
                local.uses_adapter("other")

    asyncio.run(main())


def test_a_switchable_adapter_is_chosen_by_each_request(tiny_folder: Path, tmp_path: Path) -> None:
    async def main() -> None:
        options = {"adapter": adapter(tmp_path / "mine"), "switchable": True}
        async with LocalModel.open(tiny_folder, **options) as local:
            assert local.uses_adapter(None)
            assert not local.uses_adapter(BASE)
            assert local.prefix_key(True) != local.prefix_key(False)
            assert "adapter mine" in local.line

    asyncio.run(main())


def test_a_tokenizer_of_another_size_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    for path in tiny_folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "config.json").unlink()
    config = json.loads((tiny_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": 300}))

    async def main() -> None:
        async with LocalModel.open(tmp_path):
            pass

    with pytest.raises(LoadingError):
        asyncio.run(main())


def test_an_unknown_device_is_named() -> None:
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(LoadingError, match="device 'toaster'"):
        pick_device("toaster")
    assert pick_dtype(torch.device("cuda")) == torch.bfloat16
