"""Is a folder a Hugging Face checkpoint that can be loaded? Says which file is missing or damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from carrara.engines.errors import LoadingError
from carrara.engines.fields import Fields
from carrara.engines.weights import safetensors_file

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_TOKENIZER = "tokenizer.json"


def check_folder(folder: Path) -> None:
    """Check what must be there, and the length of every weights file against its header. Loads nothing.

    Raises:
        LoadingError: names the file and what to do.
    """
    config = read_object(folder / "config.json")
    if not config.get("model_type"):
        raise LoadingError(f"{folder / 'config.json'}: has no model_type; is this a model folder?")
    for path in weight_files(folder):
        safetensors_file.check(path)
    if not (folder / _TOKENIZER).is_file():
        raise LoadingError(
            f"{folder / _TOKENIZER} does not exist. Save the tokenizer in its fast form: "
            "transformers' AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER) writes it."
        )
    read_object(folder / _TOKENIZER)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files, which exist: one, or the shards that the index names.

    Raises:
        LoadingError: one does not exist, or the index is damaged or names something else than files beside it.
    """
    if (folder / INDEX_FILE).is_file():
        return [_existing(folder / name) for name in sorted(set(shards(folder).values()))]
    if not (folder / WEIGHTS_FILE).is_file() and (old := sorted(folder.glob("*.bin"))):
        raise LoadingError(
            f"{folder / WEIGHTS_FILE} does not exist, only {old[0].name}, a format that can run code. "
            "Convert it to safetensors first."
        )
    return [_existing(folder / WEIGHTS_FILE)]


def shards(folder: Path) -> dict[str, str]:
    """Which file beside the index holds each tensor, as the index says.

    Raises:
        LoadingError: the index is damaged, or names something else than files beside it.
    """
    path = folder / INDEX_FILE
    found = Fields(read_object(path), str(path)).part("weight_map")
    if not found.found:
        raise LoadingError(f"{path}: has no weight_map")
    for tensor, name in found.found.items():
        if not isinstance(name, str) or not name:
            raise found.fault(tensor, "the name of a file")
        if (folder / name).parent != folder:
            raise LoadingError(f"{path}: {folder / name} lies outside the folder of the checkpoint")
    return dict(found.found)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise LoadingError(f"{path} does not exist; the checkpoint is incomplete")
    return path


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`, or a LoadingError that names it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LoadingError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:
        raise LoadingError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise LoadingError(f"{path}: is not a JSON object")
    return found
