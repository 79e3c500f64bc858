"""What a finished model folder holds: the size and hash of each file, written last.

A folder without a manifest, or with one that does not fit, is not finished: it is never loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from carrara.engines.weights import checked
from carrara.engines.weights.catalog import Card
from carrara.engines.weights.durable import sync_file

FILE = "manifest.json"
CONVERTER = 1
"""Raised when a conversion would write something else: folders of an older one are converted again."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One file: its length in bytes and its SHA-256 in hexadecimal."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of one model folder by name, the GGUF they were made from, and the converter's version."""

    model: str
    gguf_sha256: str
    converter: int
    files: Mapping[str, Stored]

    @classmethod
    def of(cls, folder: Path, card: Card) -> Manifest:
        """Hash every file in `folder`."""
        paths = sorted(path for path in folder.iterdir() if path.name != FILE)
        files = {path.name: Stored(path.stat().st_size, sha256(path)) for path in paths}
        return cls(card.name, card.gguf_sha256, CONVERTER, files)

    def write(self, folder: Path) -> None:
        files = {n: {"bytes": f.bytes, "sha256": f.sha256} for n, f in self.files.items()}
        found = {
            "model": self.model,
            "gguf_sha256": self.gguf_sha256,
            "converter": self.converter,
            "files": files,
        }
        (folder / FILE).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        sync_file(folder / FILE)


def read(folder: Path) -> Manifest | None:
    """The manifest in `folder`, None where there is none that can be understood."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        files = {n: Stored(int(f["bytes"]), str(f["sha256"])) for n, f in found["files"].items()}
        return Manifest(found["model"], found["gguf_sha256"], int(found["converter"]), files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def faults(folder: Path, card: Card, *, full: bool = False) -> list[str]:
    """What is wrong with the folder of `card`, a line each; [] is sound.

    Compares names, sizes and hashes. A file that was found whole is not hashed again until it changes, which
    leaves well under a millisecond; `full` hashes all of them (0.4 s for 270 MB on one core).
    """
    manifest = read(folder)
    if manifest is None:
        return [f"{folder / FILE} is missing or damaged: the model was never finished"]
    if (manifest.gguf_sha256, manifest.converter) != (card.gguf_sha256, CONVERTER):
        return [f"{folder} was converted from another file or by another version"]
    before = checked.read(folder)
    sound: dict[str, str] = {}
    found = []
    for name, stored in manifest.files.items():
        fault = _fault(folder / name, stored, sound, "" if full else before.get(name, ""))
        if fault is not None:
            found.append(fault)
    if sound != before:
        checked.remember(folder, sound)
    return found


def _fault(path: Path, stored: Stored, sound: dict[str, str], before: str) -> str | None:
    """What is wrong with one file, None for nothing: then it is noted in `sound`. `before`: what was noted last."""
    try:
        size = path.stat().st_size
        if size != stored.bytes:
            return f"{path} has {size:,} bytes instead of {stored.bytes:,}"
        identity, settled = checked.identity(path)
        known = f"{stored.sha256} {identity}"
        if known != before and sha256(path) != stored.sha256:
            return f"{path} has another content than was written (SHA-256 differs)"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or error}"
    if settled or known == before:
        sound[path.name] = known
    return None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
