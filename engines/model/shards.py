"""The safetensors files of a checkpoint: opening them, and what their headers promise.

A header tells names, shapes and kinds of numbers without a weight being read, so a folder that is not what its
config.json asks for is refused at once, however large it is. `load` fills our models; `gemma` leaves that to
transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from carrara.engines.errors import LoadingError
from carrara.engines.weights.folder import INDEX_FILE, WEIGHTS_FILE, shards, weight_files
from carrara.engines.weights.safetensors_file import first_cut_off

# Tensors that some exporters write and that hold nothing to load: rotary tables are computed.
_IGNORED_ENDINGS = (".rotary_emb.inv_freq",)
_PLAIN_KINDS = frozenset(("F64", "F32", "F16", "BF16"))
_KINDS = {
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "BOOL": "bool",
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A safetensors file open for reading; damage and I/O faults become a LoadingError naming it."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        where = f" from tensor {cut!r} on" if (cut := first_cut_off(path)) else ""
        raise LoadingError(
            f"{path}: damaged or cut off{where} ({error}). "
            "Remove it and fetch the checkpoint again."
        ) from error


def check_headers(
    folder: Path,
    wanted: Mapping[str, Sequence[int]],
    may_skip: Callable[[str], bool] = lambda name: False,
    shared: Mapping[str, str] | None = None,
) -> None:
    """Compare the headers of a checkpoint with the shapes of the tensors that are `wanted` of it.

    `may_skip` tells names that may stand there and are not loaded. `shared` maps names of one tensor to the one that
    it is called by: any of them is enough.

    Raises:
        LoadingError: names the file, and the tensor that is missing, unknown, quantised or of another shape.
    """
    called = shared or {}
    left = dict.fromkeys(called.get(name, name) for name in wanted)
    for path in weight_files(folder):
        with opened(path) as file:
            for name in file.keys():  # noqa: SIM118 - a safetensors file is not iterable
                if name in wanted:
                    _check_tensor(path, name, file.get_slice(name), wanted[name])
                    left.pop(called.get(name, name), None)
                elif not (name.endswith(_IGNORED_ENDINGS) or may_skip(name)):
                    raise LoadingError(f"{path}: tensor {name!r} is not part of this model")
    if left:
        raise LoadingError(_missing(folder, list(left)))


def _check_tensor(path: Path, name: str, found: Any, wanted: Sequence[int]) -> None:
    if (kind := found.get_dtype()) not in _PLAIN_KINDS:
        raise LoadingError(
            f"{path}: tensor {name!r} holds {_KINDS.get(kind, kind)}; "
            "quantised weights are not supported. Use the checkpoint in bfloat16, float16 or float32."
        )
    if (shape := list(found.get_shape())) != list(wanted):
        raise LoadingError(
            f"{path}: tensor {name!r} has shape {shape}, config.json asks for {list(wanted)}"
        )


def _missing(folder: Path, names: list[str]) -> str:
    """Which tensors are missing and where the first of them should have been."""
    file, first = folder / WEIGHTS_FILE, names[0]
    if (folder / INDEX_FILE).is_file():
        held = shards(folder).get(first)
        file = folder / (held or INDEX_FILE)
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"{file}: {len(names)} tensors are missing: {shown}"
