"""A golden folder on disk: its cases, their arrays, and the checkpoint they were computed with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import load_file
from torch import Tensor

from carrara.engines.errors import LoadingError
from carrara.engines.goldens.params import KINDS, Params
from carrara.engines.weights.folder import read_object

FORMAT = "goldens-1"
V = TypeVar("V")


class Skip(Exception):
    """A case that cannot be run here; the text says why."""


class Differs(Exception):
    """A case that came out otherwise than recorded; the text says where."""


class Malformed(Exception):
    """A case whose description cannot be followed; the text says where and what."""


class Part(dict[str, V]):
    """An object of cases.json. A key that is asked for and not there is told with its place: `where` names the file,
    and the case that it is of; `prefix` stands before the key."""

    def __init__(self, found: Mapping[str, V], where: str, prefix: str = "") -> None:
        super().__init__(found)
        self.where, self.prefix = where, prefix

    def __missing__(self, key: str) -> V:
        raise Malformed(f"{self.where} lacks {self.prefix}{key}")


@dataclass(frozen=True, slots=True)
class Case:
    """One case: its description, and its arrays by name (integers as int64). `where` names it in errors."""

    name: str
    where: str
    facts: Part[Any]
    arrays: Part[Tensor]

    @property
    def params(self) -> Part[Any]:
        return Part(self.facts.get("params", {}), self.where, "params.")

    @property
    def prompts(self) -> list[list[int]]:
        """The rows of token ids.

        Raises:
            Malformed: there are none, or they are something else.
        """
        inputs = Part[Any](self.facts["inputs"], self.where, "inputs.")
        found: list[list[int]] = inputs["prompts"]
        if not _are_rows(found):
            raise Malformed(f"{self.where}: inputs.prompts is not a list of rows of token ids")
        return found

    def check_values(self) -> None:
        """Raises Malformed where a parameter is what none of its name can be."""
        for name, value in self.params.items():
            if name in KINDS and value is not None and value not in KINDS[name]:
                raise Malformed(f"{self.where}: params.{name} is {value!r}, not {KINDS[name]}")

    def check_params(self, known: Params) -> None:
        """Raises Malformed where a parameter is what its algorithm cannot be run with, or the case sets one that it
        does not know: it would not be held to it."""
        self.check_values()
        if unknown := sorted(self.params.keys() - known.names):
            raise Malformed(
                f"{self.where}: {self.facts['algorithm']} has no params.{unknown[0]} here; "
                f"known are {', '.join(sorted(known.names))}"
            )
        for name, value in self.params.items():
            if value is None and name not in known.nullable:
                raise Malformed(f"{self.where}: params.{name} is null, not {KINDS[name]}")

    def check_tokens(self, vocab_size: int) -> None:
        """Raises Malformed where a prompt or an input array or parameter names a token that the model lacks."""
        rows = {name: self.arrays[name] for name in _INPUTS if name in self.arrays}
        highest = {name: int(array.max()) for name, array in rows.items() if array.numel()}
        if "inputs" in self.facts:
            highest["inputs.prompts"] = max(map(max, self.prompts))
        highest |= {f"params.{n}": max(self.params[n]) for n in _SUPPRESSED if self.params.get(n)}
        for name, token in highest.items():
            if token >= vocab_size:
                raise Malformed(
                    f"{self.where}: {name} holds token {token}, the model has {vocab_size}"
                )


_INPUTS = ("input_ids", "input_ids_edited")
_SUPPRESSED = ("suppress_tokens", "begin_suppress_tokens")


@dataclass(frozen=True, slots=True)
class Folder:
    """`facts` is all of cases.json but the cases."""

    path: Path
    family: str
    facts: Part[Any]
    forward: tuple[Case, ...]
    decode: tuple[Case, ...]


def read_folder(path: Path) -> Folder:
    """Read `cases.json` and `cases.safetensors`.

    Raises:
        LoadingError: a file is missing or damaged, of another format, without cases, or lacks an array that a case
            names.
    """
    where = path / "cases.json"
    found = read_object(where)
    if found.get("format") != FORMAT:
        raise LoadingError(f"{where}: format {found.get('format')!r} is not {FORMAT!r}")
    if lacks := [name for name in ("family", "forward", "decode") if name not in found]:
        raise LoadingError(f"{where}: lacks {', '.join(map(repr, lacks))}")
    file = path / "cases.safetensors"
    try:
        arrays = load_file(file)
    except Exception as error:
        raise LoadingError(f"{file}: cannot be read: {error}") from error
    whole = {name: t if t.is_floating_point() else t.long() for name, t in arrays.items()}
    kinds = {kind: _cases(found[kind], kind, whole, where) for kind in ("forward", "decode")}
    if not any(kinds.values()):
        raise LoadingError(f"{where}: holds no cases, so nothing would be checked")
    return Folder(
        path,
        str(found["family"]),
        Part({key: value for key, value in found.items() if key not in kinds}, f"{where}:"),
        **kinds,
    )


def _cases(found: Any, kind: str, arrays: Mapping[str, Tensor], where: Path) -> tuple[Case, ...]:
    if not isinstance(found, list):
        raise LoadingError(f"{where}: '{kind}' is not a list of cases")
    return tuple(
        _case(facts, f"{kind} case {number}", arrays, where)
        for number, facts in enumerate(found, 1)
    )


def _case(facts: Any, place: str, arrays: Mapping[str, Tensor], where: Path) -> Case:
    if not isinstance(facts, dict):
        raise LoadingError(f"{where}: {place} is not an object")
    if not isinstance(facts.get("name"), str):
        raise LoadingError(f"{where}: {place} lacks 'name'")
    name = facts["name"]
    for part in ("params", "inputs", "arrays"):
        if not isinstance(facts.get(part, {}), dict):
            raise LoadingError(f"{where}: case {name!r}: '{part}' is not an object")
    file, own = where.with_name("cases.safetensors"), facts.get("arrays", {})
    if lacks := [key for key in own.values() if key not in arrays]:
        raise LoadingError(f"{file}: lacks {lacks[0]!r}, which case {name!r} names")
    which = f"{where}: case {name!r}"
    found = {ours: arrays[key] for ours, key in own.items()}
    return Case(name, which, Part(facts, which), Part(found, which, "arrays."))


def _are_rows(found: Any) -> bool:
    return (
        isinstance(found, list)
        and bool(found)
        and all(isinstance(row, list) and row for row in found)
        and all(type(token) is int and token >= 0 for row in found for token in row)
    )
