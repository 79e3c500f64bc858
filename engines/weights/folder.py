"""Is a folder a Hugging Face checkpoint that can be loaded? Says which file is missing or damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from carrara.engines.errors import LoadingError
from carrara.engines.weights import safetensors_file

_WEIGHTS, _INDEX, _TOKENIZER = (
    "model.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
)


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
    """The safetensors files: one, or the shards that the index names."""
    if (folder / _INDEX).is_file():
        names = read_object(folder / _INDEX).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise LoadingError(f"{folder / _INDEX}: has no weight_map")
        return [folder / name for name in sorted(set(names.values()))]
    if not (folder / _WEIGHTS).is_file() and (old := sorted(folder.glob("*.bin"))):
        raise LoadingError(
            f"{folder / _WEIGHTS} does not exist, only {old[0].name}, a format that can run code. "
            "Convert it to safetensors first."
        )
    return [folder / _WEIGHTS]


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
