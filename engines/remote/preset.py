"""Presets: what is known of a server or a hosted service, as data.

The presets that come along lie in `presets/*.toml`; `carrara engines probe` writes more. A preset never holds a key,
only the name of the variable that does.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from carrara.engines.errors import LoadingError
from carrara.engines.facts import Price
from carrara.engines.remote.additions import key_in_file, read_body, read_headers
from carrara.engines.remote.keys import bare_url

FOLDER = Path(__file__).parent / "presets"

WireName = Literal["openai", "openai-text", "anthropic", "gemini"]
SchemaMode = Literal["none", "object", "strict", "full", "llguidance"]
"""How far a server holds JSON Schemas: not at all; some JSON ("object"); the narrow dialect in which every key is
required and nothing more is allowed ("strict"); by a grammar, nearly whole ("full"); besides, llama.cpp's grammars of
llguidance ("llguidance")."""
Pattern = Literal["none", "schema", "structured_outputs"]
"""How it holds regular expressions: not; as a string's `pattern` in a schema; by vLLM's `structured_outputs`."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for each phase. `read_s` is the longest silence: without a stream that is the whole answer, in one the
    time without an event; comments and pings are silence. `tail_s` is how long a stream that has told the reason of
    its end is listened to for what may follow, such as the usage."""

    connect_s: float = 10.0
    write_s: float = 30.0
    read_s: float = 180.0
    pool_s: float = 60.0
    tail_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Preset:
    """One server or service. `name` is what it is called in a configuration.

    `key_env` is the environment variable that holds the key ("" where none is needed); `key_required` False sends
    one only where there is one. `key_header` is the header that carries the key, "" for the one of the wire format;
    "Authorization" takes it behind the word Bearer, any other as it is. `max_tokens_name` is the field for the longest
    answer. `concurrency` bounds the connections. `decisions` and `pins` are vLLM's controls of a served diffusion
    model. `body` and `headers` are added to every call. `checked` says in a few words on what the abilities rest.
    """

    name: str
    title: str
    base_url: str
    wire: WireName = "openai"
    model: str = ""
    key_env: str = ""
    key_required: bool = True
    key_header: str = ""
    context_tokens: int = 128_000
    schema: SchemaMode = "none"
    pattern: Pattern = "none"
    logprobs: bool = False
    top_logprobs: int = 5
    seed: bool = False
    stream: bool = True
    tools: bool = False
    temperature: bool = True
    cached_usage: bool = False
    decisions: bool = False
    pins: bool = False
    canvas_tokens: int = 256
    max_tokens_name: str = "max_tokens"
    concurrency: int = 32
    timeouts: Timeouts = Timeouts()
    price: Price | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    checked: str = ""

    def but(self, changes: Mapping[str, Any], where: str) -> Preset:
        """This preset with the given fields changed; `where` names their source in errors.

        Raises:
            LoadingError: an unknown field, or a value of the wrong type or out of range.
        """
        known = {f.name for f in fields(self)} - {"name"}
        for key in changes:
            if key not in known:
                near = get_close_matches(key, known, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise LoadingError(f"{where}: unknown key {key!r}.{hint}")
        found = {key: _read(key, value, where) for key, value in changes.items()}
        made = replace(self, **found)
        if made.key_header and made.key_header.lower() in map(str.lower, made.headers):
            raise key_in_file(where, made.key_header)
        return made

    def data(self) -> dict[str, Any]:
        """All that differs from the defaults, as plain data: what a preset file holds."""
        plain = asdict(self)
        default = asdict(Preset(self.name, self.title, self.base_url))
        return {
            key: value
            for key, value in plain.items()
            if key in ("title", "base_url", "wire") or value != default.get(key)
        } | {"name": self.name}


def read_preset(path: Path) -> Preset:
    """The preset in a TOML file, called like the file.

    Raises:
        LoadingError: names the file and the key.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoadingError(f"{path}: cannot be read as TOML: {error}") from error
    found.pop("name", None)
    bare = Preset(path.stem, path.stem, "")
    made = bare.but(found, str(path))
    if not made.base_url:
        raise LoadingError(f"{path}: a preset needs a base_url")
    return made


@cache
def presets() -> Mapping[str, Preset]:
    """The presets that come along, by name."""
    stem = attrgetter("stem")
    return {path.stem: read_preset(path) for path in sorted(FOLDER.glob("*.toml"), key=stem)}


def preset(name: str, folder: Path | None = None) -> Preset:
    """A preset by name, or by the path of a file (relative to `folder`).

    Raises:
        LoadingError: there is none; names the closest.
    """
    if name.endswith(".toml"):
        return read_preset((folder or Path()) / name)
    known = presets()
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise LoadingError(f"no preset is called {name!r}. {hint}Known presets: {', '.join(known)}.")


_TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "WireName": (str,),
    "SchemaMode": (str,),
    "Pattern": (str,),
}
_WORDS = {"wire": get_args(WireName), "schema": get_args(SchemaMode), "pattern": get_args(Pattern)}
_LEAST = {"concurrency": 1, "context_tokens": 1, "canvas_tokens": 1, "top_logprobs": 0}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_TAKEN_HEADERS = (
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    "user-agent",
)
_PARTS: Mapping[str, type] = {"timeouts": Timeouts, "price": Price}


def _read(key: str, value: Any, where: str) -> Any:
    if key in _PARTS:
        return _part(key, value, where)
    if key in ("body", "headers"):
        if not isinstance(value, Mapping):
            raise LoadingError(f"{where}: {key} is a table, got {value!r}")
        return (read_headers if key == "headers" else read_body)(value, where)
    kind = next(f.type for f in fields(Preset) if f.name == key)
    wanted = _TYPES[str(kind)]
    if not isinstance(value, wanted) or (wanted == (int,) and isinstance(value, bool)):
        raise LoadingError(f"{where}: {key} takes {wanted[0].__name__}, got {value!r}")
    if key in _WORDS and value not in _WORDS[key]:
        raise LoadingError(f"{where}: {key} is one of {', '.join(_WORDS[key])}, got {value!r}")
    if isinstance(value, int) and value < _LEAST.get(key, value):
        raise LoadingError(f"{where}: {key} is at least {_LEAST[key]}, got {value!r}")
    if key in ("key_env", "key_header") and value:
        _check_name(key, str(value), where)
    return check_url(str(value), where) if key == "base_url" else value


def _check_name(key: str, name: str, where: str) -> None:
    """The name of the variable or of the header. A wrong one is not quoted: it may be the key itself, by mistake."""
    if key == "key_env" and not _VARIABLE.fullmatch(name):
        raise LoadingError(
            f"{where}: key_env is the name of an environment variable, such as EXAMPLE_API_KEY, never the key"
        )
    if key == "key_header" and not _HEADER.fullmatch(name):
        raise LoadingError(
            f"{where}: key_header is the name of a header, such as api-key; the key comes from the variable that "
            "key_env names"
        )
    if key == "key_header" and name.lower() in _TAKEN_HEADERS:
        raise LoadingError(
            f"{where}: key_header: {name} says something else in each call and carries no key; services use "
            "Authorization, api-key or x-api-key"
        )


def check_url(url: str, where: str) -> str:
    """`url`, if it may be the address of a server. It is kept in journals and shown, so it holds no secret.

    Raises:
        LoadingError: it is no http(s) URL, or has a user, a password or a query.
    """
    if wrong := _wrong_in(url):
        told = "" if set(url) & set("@?#") else f", got {url!r}"
        raise LoadingError(
            f"{where}: base_url is an http(s) URL such as http://host:8000/v1{told}: {wrong}"
        )
    parts = urlsplit(url)
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise LoadingError(
            f"{where}: base_url holds no user, password or query: it is shown and kept; name the variable of a key "
            f"with key_env: {bare_url(url)}"
        )
    return url


def _wrong_in(url: str) -> str:
    """What keeps a text from being the URL of a server, "" for nothing."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an IPv6 address stands in brackets, [::1]"
    if any(c.isspace() for c in url):
        return "it holds no white space"
    if parts.scheme not in ("http", "https"):
        return "it begins with http:// or https://"
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        return "a port is a number from 1 to 65535, an IPv6 address stands in brackets"
    return "" if parts.hostname else "it names no host"


def _part(key: str, value: Any, where: str) -> Any:
    known = {f.name for f in fields(_PARTS[key])}
    if not isinstance(value, Mapping) or set(value) - known:
        raise LoadingError(f"{where}: {key} holds {', '.join(sorted(known))}, got {value!r}")
    for name, number in value.items():
        if name != "as_of" and (isinstance(number, bool) or not isinstance(number, int | float)):
            raise LoadingError(f"{where}: {key}.{name} is a number, got {number!r}")
        if name == "as_of" and not isinstance(number, str):
            raise LoadingError(f"{where}: {key}.as_of is a string, got {number!r}")
        if key == "timeouts" and not number > 0:
            raise LoadingError(f"{where}: timeouts.{name} is above 0, got {number!r}")
        if key == "price" and name != "as_of" and not number >= 0:
            raise LoadingError(f"{where}: price.{name} is at least 0, got {number!r}")
    return _PARTS[key](**value)


__all__ = [
    "Preset",
    "SchemaMode",
    "Timeouts",
    "check_url",
    "preset",
    "presets",
    "read_preset",
]
