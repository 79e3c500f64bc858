"""Engines by name: what is missing is said before anything is loaded, and local engines share one model."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from carrara.engines import registry
from carrara.engines.engine import Engine
from carrara.engines.errors import LoadingError
from carrara.engines.local import LocalModel
from carrara.engines.registry import Availability, Kind, Setting, UnknownEngine
from carrara.engines.scripted import ScriptedEngine
from carrara.engines.weights import store
from carrara.engines.weights.catalog import UnknownModel


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without weights, and no embedded adapter."""
    monkeypatch.setenv("CARRARA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(registry, "EMBEDDED", tmp_path / "embedded")
    return tmp_path / "home"


LOCAL = ("diffusion", "ar", "verified")


def here(source: str | Path = "smollm2") -> dict[str, Availability]:
    return {found.name: found for found in registry.availability(source) if found.name in LOCAL}


def test_without_weights_all_local_engines_say_what_to_pull() -> None:
    assert set(here()) == set(LOCAL)
    for found in here().values():
        assert not found.ok
        assert "not here yet (93 MB to fetch)" in found.line
        assert found.fix == "carrara models pull smollm2"


def test_without_torch_all_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    found_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else found_spec(name)
    )
    for found in here().values():
        assert (found.ok, found.line) == (False, "torch is not installed")
        assert found.fix == "pip install 'carrara[local]'"


def ready(monkeypatch: pytest.MonkeyPatch, faults: tuple[str, ...] = ()) -> None:
    def state(name: str) -> store.ModelState:
        kind: Any = "damaged" if faults else "ready"
        return store.ModelState(store.card(name), Path("x"), kind, 1, faults)

    monkeypatch.setattr(store, "state", state)


def test_damaged_weights_are_shown_with_the_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    ready(monkeypatch, ("x/model.safetensors has 1 bytes instead of 2",))
    found = here()["ar"]
    assert (found.ok, found.fix) == (False, "carrara models pull smollm2")
    assert "model.safetensors" in found.line


def test_without_an_adapter_diffusion_works_and_says_that_it_is_poor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ready(monkeypatch)
    found = here()
    assert (found["ar"].ok, found["ar"].line, found["ar"].fix) == (
        True,
        "SmolLM2-135M-Instruct",
        "",
    )
    assert found["diffusion"].ok
    assert "answers are poor, the router falls back to ar" in found["diffusion"].line
    assert str(registry.EMBEDDED) in found["diffusion"].fix
    assert "drafts are poor, about as fast as ar" in found["verified"].line


def test_an_adapter_in_the_embedded_folder_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    ready(monkeypatch)
    registry.EMBEDDED.mkdir()
    (registry.EMBEDDED / "adapter_config.json").write_text("{}")
    assert "with its diffusion adapter" in here()["diffusion"].line
    assert here()["diffusion"].fix == ""
    assert here()["verified"].line == here()["ar"].line


def test_a_folder_as_source_is_checked(tmp_path: Path) -> None:
    found = here(tmp_path)["ar"]
    assert not found.ok
    assert "config.json does not exist" in found.line
    with pytest.raises(UnknownModel):
        here("no/such/folder")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("difusion", "Did you mean 'diffusion'?"),
        ("xyzzy", "Known engines: diffusion, ar, verified,"),
    ],
)
def test_an_unknown_engine_is_an_error_that_helps(name: str, hint: str) -> None:
    for ask in (registry.known, lambda n: registry.open_engines(["ar", n])):
        with pytest.raises(UnknownEngine) as caught:
            ask(name)
        assert hint in str(caught.value)


def scripted(seen: list[LocalModel]) -> Kind:
    def build(setting: Setting) -> Engine:
        seen.append(setting.model)
        return ScriptedEngine("scripted")

    return Kind(build, lambda name, _source: Availability(name, True, "scripted"))


def test_engines_of_one_call_share_one_model_and_a_name_given_twice_is_opened_once() -> None:
    seen: list[LocalModel] = []
    kinds = {"one": scripted(seen), "two": scripted(seen)}
    found = registry.open_engines(["two", "one", "two"], source="there", kinds=kinds)
    assert list(found) == ["two", "one"]
    assert len(seen) == 2
    assert seen[0] is seen[1]
    assert seen[0].source == "there"
    registry.open_engines(["one"], kinds=kinds)
    assert seen[2] is not seen[0]
    assert [one.line for one in registry.availability(kinds=kinds)] == ["scripted", "scripted"]


def test_a_missing_package_is_an_error_that_names_it() -> None:
    def build(_setting: Setting) -> Engine:
        raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")

    kinds = {"local": Kind(build, lambda name, _source: Availability(name, True, ""))}
    with pytest.raises(LoadingError, match=r"'local' needs the package 'torch': pip install"):
        registry.open_engines(["local"], kinds=kinds)


def test_the_local_engines_are_opened_without_loading_anything() -> None:
    code = (
        "import sys\n"
        "from carrara.engines.registry import availability, open_engines\n"
        "availability()\n"
        "assert 'torch' not in sys.modules and 'tokenizers' not in sys.modules\n"
        "found = open_engines(['diffusion', 'ar', 'verified'])\n"
        "print({name: engine.name for name, engine in found.items()})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout) == (
        "",
        "{'diffusion': 'diffusion', 'ar': 'ar', 'verified': 'verified'}\n",
    )
