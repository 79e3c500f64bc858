"""What a user has configured: the file `carrara.toml` with engines and how local ones compute, and definitions given in
place.

    [engines.fast]
    preset = "vllm-server"
    base_url = "http://gpu-box:8000/v1"
    model = "Qwen/Qwen3-8B"

    [local]
    quick = true

A definition names a preset, or a file with one, and changes what differs. `$CARRARA_CONFIG` names another file.
"""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from carrara.engines.errors import LoadingError
from carrara.engines.remote.keys import bare_url, find_key, how_to_set
from carrara.engines.remote.preset import Preset, preset, presets

FILE = "carrara.toml"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_KNOCK_S = 0.2


def config_path() -> Path:
    """The file in which engines are named; it need not exist."""
    return Path(os.environ.get("CARRARA_CONFIG") or FILE).expanduser()


def configured() -> dict[str, Preset]:
    """The engines named in the configuration file, none where there is no file.

    Raises:
        LoadingError: names the file, the engine and the key that is wrong; `$CARRARA_CONFIG` names no file.
    """
    path, found = config_path(), _tables().get("engines", {})
    if not isinstance(found, Mapping):
        raise LoadingError(f"{path}: `engines` is a table of engines, got {found!r}")
    return {
        name: defined(name, given, f"{path}: engines.{name}", path.parent)
        for name, given in found.items()
    }


def local_quick() -> bool | None:
    """`quick` of local models (`LocalModel.open`) as the configuration file has it, None where it says nothing.

    Raises:
        LoadingError: as `configured`.
    """
    path, found = config_path(), _tables().get("local", {})
    if not isinstance(found, Mapping) or (stray := [key for key in found if key != "quick"]):
        wrong = f"unknown key {stray[0]!r}" if isinstance(found, Mapping) else f"got {found!r}"
        raise LoadingError(
            f"{path}: local: {wrong}: it is a table that holds `quick`, true or false"
        )
    quick = found.get("quick")
    if quick is not None and not isinstance(quick, bool):
        raise LoadingError(f"{path}: local.quick is true or false, got {quick!r}")
    return quick


def _tables() -> Mapping[str, Any]:
    """The configuration file, empty where there is none."""
    path = config_path()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if os.environ.get("CARRARA_CONFIG"):
            raise LoadingError(
                f"{path}: there is no such file, and CARRARA_CONFIG names it; mend or unset the variable"
            ) from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise LoadingError(f"{path}: cannot be read: {error}") from error
    try:
        tables = tomllib.loads(text)
    except ValueError as error:
        raise LoadingError(f"{path}: is no TOML: {error}") from error
    if stray := [key for key in tables if key not in ("engines", "local")]:
        raise LoadingError(
            f"{path}: unknown key {stray[0]!r}: the file holds engines, [engines.NAME] each, and [local]"
        )
    return tables


def defined(name: str, given: Any, where: str, folder: Path | None = None) -> Preset:
    """The preset of one definition: of that name, changed as it says. `where` stands in errors. Another model or place
    has no price unless the definition gives one.

    Raises:
        LoadingError: a name that cannot be asked for, no preset, an unknown key, a wrong value.
    """
    if name == "auto" or not name or "," in name or name != name.strip():
        raise LoadingError(
            f"{where}: no engine can be called {name!r}: --engine takes names with commas between, and auto leaves the "
            "choice to the router; give it another name"
        )
    if not isinstance(given, Mapping):
        raise LoadingError(f"{where}: an engine is a table with a preset, got {given!r}")
    changes = dict(given)
    wanted = changes.pop("preset", name)
    if not isinstance(wanted, str):
        raise LoadingError(f"{where}: preset is a name, got {wanted!r}")
    if stray := [key for key in ("key", "api_key") if key in changes]:
        raise LoadingError(
            f"{where}: {stray[0]}: a key does not belong into a file; name a variable with key_env"
        )
    try:
        base = preset(wanted, folder)
    except LoadingError as error:
        raise LoadingError(f"{where}: {error}") from error
    made = base.but(changes, where)
    if "price" not in changes and (made.model, made.base_url) != (base.model, base.base_url):
        return replace(made, price=None)  # it was that of another model, or of another place
    return made


def all_presets() -> dict[str, Preset]:
    """The presets that come along and the configured engines; the latter win."""
    return {**presets(), **configured()}


def lacks(name: str, known: Preset) -> tuple[str, str]:
    """What an engine lacks to be used now, and what to do about it; ("", "") for nothing. Asks no server: of one on
    this machine it looks whether anything listens."""
    if not known.model and known.key_required:
        return "no model is named", f'[engines.{name}] model = "…" in {FILE}'
    if known.key_env:
        try:
            key = find_key(known.key_env)
        except LoadingError as error:
            return str(error).partition(": ")[0], how_to_set(known.key_env)
        if known.key_required and not key:
            return f"{known.key_env} is not set", how_to_set(known.key_env)
    place = urlsplit(known.base_url)
    if is_loopback(known.base_url) and not _listens(str(place.hostname), place.port or 80):
        return f"nothing listens at {bare_url(known.base_url)}", "start the server, or set base_url"
    return "", ""


def is_loopback(url: str) -> bool:
    """Whether a server is on this machine."""
    return urlsplit(url).hostname in _LOOPBACK


def line_of(known: Preset) -> str:
    """An engine in a few words."""
    model = known.model or "its model"
    return f"{known.title}: {model} at {bare_url(known.base_url)} (abilities: {known.checked or 'as configured'})"


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=_KNOCK_S):
            return True
    except OSError:
        return False


__all__ = [
    "all_presets",
    "config_path",
    "configured",
    "defined",
    "is_loopback",
    "lacks",
    "line_of",
    "local_quick",
]
