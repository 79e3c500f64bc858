"""A golden folder on disk: its cases, their arrays, and the checkpoint they were computed with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from carrara.engines.errors import LoadingError
from carrara.engines.weights.folder import read_object

FORMAT = "goldens-1"


class Skip(Exception):
    """A case that cannot be run here; the text says why."""


class Differs(Exception):
    """A case that came out otherwise than recorded; the text says where."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case: its description, and its arrays by name (integers as int64)."""

    name: str
    facts: Mapping[str, Any]
    arrays: Mapping[str, Tensor]

    @property
    def params(self) -> dict[str, Any]:
        return dict(self.facts.get("params", {}))

    @property
    def prompts(self) -> list[list[int]]:
        found: list[list[int]] = self.facts["inputs"]["prompts"]
        return found


@dataclass(frozen=True, slots=True)
class Folder:
    """`facts` is all of cases.json but the cases."""

    path: Path
    family: str
    facts: Mapping[str, Any]
    forward: tuple[Case, ...]
    decode: tuple[Case, ...]


def read_folder(path: Path) -> Folder:
    """Read `cases.json` and `cases.safetensors`.

    Raises:
        LoadingError: a file is missing or damaged, of another format, or lacks an array that a case names.
    """
    found = read_object(path / "cases.json")
    if found.get("format") != FORMAT:
        raise LoadingError(
            f"{path / 'cases.json'}: format {found.get('format')!r} is not {FORMAT!r}"
        )
    file = path / "cases.safetensors"
    try:
        arrays = load_file(file)
    except Exception as error:
        raise LoadingError(f"{file}: cannot be read: {error}") from error
    whole = {name: t if t.is_floating_point() else t.long() for name, t in arrays.items()}
    return Folder(
        path,
        str(found["family"]),
        {key: value for key, value in found.items() if key not in ("forward", "decode")},
        *(
            tuple(_case(facts, whole, file) for facts in found[kind])
            for kind in ("forward", "decode")
        ),
    )


def _case(facts: Mapping[str, Any], arrays: Mapping[str, Tensor], file: Path) -> Case:
    try:
        own = {name: arrays[key] for name, key in facts.get("arrays", {}).items()}
    except KeyError as error:
        raise LoadingError(f"{file}: lacks {error}, which case {facts['name']!r} names") from error
    return Case(str(facts["name"]), facts, own)
