"""A large file in parts with hashes, for ways that carry only small files.

    python -m carrara.engines.weights.parts split FILE FOLDER [--mb 15]
    python -m carrara.engines.weights.parts join FOLDER FILE

The parts and a list of them, `parts.json`, lie in FOLDER. Joining checks every part and the whole.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

from carrara.engines.errors import CarraraError, LoadingError

LIST_FILE = "parts.json"


def split(file: Path, folder: Path, part_bytes: int) -> list[Path]:
    """Cut `file` into parts of at most `part_bytes` in `folder`, which is made; all files written.

    Raises:
        CarraraError: parts of no size.
        LoadingError: the file cannot be read.
    """
    if part_bytes < 1:
        raise CarraraError(f"a part has at least 1 byte, not {part_bytes}")
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    listed: list[dict[str, str]] = []
    whole = hashlib.sha256()
    try:
        with file.open("rb") as source:
            while some := source.read(part_bytes):
                path = folder / f"{file.name}.{len(listed):03d}"
                path.write_bytes(some)
                whole.update(some)
                listed.append({"name": path.name, "sha256": hashlib.sha256(some).hexdigest()})
                written.append(path)
    except OSError as error:
        raise LoadingError(f"{file}: cannot be split: {error}") from error
    found = {"name": file.name, "sha256": whole.hexdigest(), "parts": listed}
    (folder / LIST_FILE).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return [*written, folder / LIST_FILE]


def join(folder: Path, file: Path) -> Path:
    """Put the parts in `folder` together as `file`, which is there only once all of it is right.

    Raises:
        LoadingError: names the list or the part that is missing or damaged.
    """
    listing = folder / LIST_FILE
    try:
        found = json.loads(listing.read_text(encoding="utf-8"))
        parts = [(folder / Path(part["name"]).name, part["sha256"]) for part in found["parts"]]
        wanted = found["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoadingError(f"{listing}: cannot be read: {error}") from error
    fresh, whole = file.with_name(file.name + ".part"), hashlib.sha256()
    try:
        with fresh.open("wb") as target:
            for path, digest in parts:
                some = _read(path)
                if hashlib.sha256(some).hexdigest() != digest:
                    raise LoadingError(f"{path}: damaged; send this part again")
                whole.update(some)
                target.write(some)
        if whole.hexdigest() != wanted:
            raise LoadingError(f"{listing}: the parts are whole, but do not make up {file.name}")
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)
    return file


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LoadingError(f"{path}: this part is missing: {error}") from error


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="parts", description="Split a file, or join it again.")
    commands = parser.add_subparsers(dest="command", required=True)
    cut = commands.add_parser("split")
    cut.add_argument("file", type=Path)
    cut.add_argument("folder", type=Path)
    cut.add_argument("--mb", type=float, default=15.0)
    glue = commands.add_parser("join")
    glue.add_argument("folder", type=Path)
    glue.add_argument("file", type=Path)
    found = parser.parse_args(words)
    try:
        if found.command == "split":
            print(*split(found.file, found.folder, int(found.mb * 1e6)), sep="\n")
        else:
            print(join(found.folder, found.file))
    except CarraraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
