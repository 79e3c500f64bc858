"""Reading a GGUF file: its metadata, and its tensors dequantised slab by slab.

The header is read here, because the `gguf` package takes seconds for a vocabulary of this size and fails
obscurely on a file that is cut off; its tables of block sizes and its dequantisation are used as they
are. Format: GGUF v2/v3, little endian (ggml/docs/gguf.md).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from carrara.engines.errors import LoadingError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
_DEFAULT_ALIGNMENT = 32
_MOST_BYTES = 1 << 28
_SLAB_WEIGHTS = 1 << 20
"""Weights dequantised at once: 4 MB of float32 stays in the processor's cache."""


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor: `shape` as numpy has it (rows first, unlike the file), `offset` into the file in bytes."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int
    bytes: int

    @property
    def rows(self) -> int:
        return math.prod(self.shape[:-1])


@dataclass(frozen=True, slots=True)
class GgufFile:
    """The header of a GGUF file whose size is known to hold all its tensors."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]

    @classmethod
    def open(cls, path: Path) -> GgufFile:
        """Read the header of `path`.

        Raises:
            LoadingError: not a GGUF file, of an unknown version or tensor type, or cut off.
        """
        try:
            with path.open("rb") as file:
                metadata, infos = _read_header(file, path)
                start = _aligned(file.tell(), metadata.get("general.alignment"))
            size = path.stat().st_size
        except (struct.error, UnicodeDecodeError, RecursionError) as error:
            raise LoadingError(f"{path}: damaged or cut off in its header ({error})") from error
        except OSError as error:
            raise LoadingError(f"{path}: cannot be read: {error}") from error
        tensors = {info[0]: _tensor(info, start, path) for info in infos}
        end = max((t.offset + t.bytes for t in tensors.values()), default=start)
        if end > size:
            raise LoadingError(f"{path}: cut off, holds {size:,} of {end:,} bytes")
        return cls(path, metadata, tensors)

    def raw_rows(self, tensor: GgufTensor) -> NDArray[np.uint8]:
        """The quantised rows [rows, bytes of a row] as they lie in the file, mapped and not copied."""
        import numpy as np

        mapped = np.memmap(
            self.path, dtype=np.uint8, mode="r", offset=tensor.offset, shape=(tensor.bytes,)
        )
        return mapped.reshape(tensor.rows, -1)


def dequantised(raw: NDArray[np.uint8], tensor: GgufTensor) -> Iterator[NDArray[np.float32]]:
    """The rows of `raw` as float32 [rows of the slab, width], a slab at a time."""
    import numpy as np
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    step = max(1, _SLAB_WEIGHTS // tensor.shape[-1])
    for first in range(0, len(raw), step):
        slab = np.ascontiguousarray(raw[first : first + step])
        found = dequantize(slab, GGMLQuantizationType(tensor.type))
        yield np.asarray(found, dtype=np.float32).reshape(len(slab), -1)


def _read_header(file: BinaryIO, path: Path) -> tuple[dict[str, Any], list[_Info]]:
    if file.read(4) != b"GGUF":
        raise LoadingError(f"{path}: is not a GGUF file")
    (version,) = _unpack(file, "I")
    if version not in (2, 3):
        raise LoadingError(f"{path}: GGUF version {version} is not supported, only 2 and 3")
    tensor_count, key_count = _unpack(file, "QQ")
    metadata = {}
    for _ in range(key_count):
        key = _string(file)
        metadata[key] = _value(file, _unpack(file, "I")[0], path)
    return metadata, [_info(file) for _ in range(tensor_count)]


_Info = tuple[str, tuple[int, ...], int, int]


def _info(file: BinaryIO) -> _Info:
    name = _string(file)
    (axes,) = _unpack(file, "I")
    shape = _unpack(file, f"{min(axes, 8)}Q")[::-1]
    kind, offset = _unpack(file, "IQ")
    return name, shape, kind, offset


def _tensor(info: _Info, start: int, path: Path) -> GgufTensor:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    name, shape, kind, offset = info
    try:
        block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (KeyError, ValueError) as error:
        raise LoadingError(f"{path}: tensor {name!r} has the unknown type {kind}") from error
    if not shape or 0 in shape or shape[-1] % block:
        raise LoadingError(f"{path}: tensor {name!r} of shape {list(shape)} is not whole blocks")
    return GgufTensor(name, shape, kind, start + offset, math.prod(shape) // block * block_bytes)


def _value(file: BinaryIO, kind: int, path: Path) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        item, count = _unpack(file, "IQ")
        if item in _SCALARS:
            return list(_unpack(file, f"{count}{_SCALARS[item]}"))
        return [_value(file, item, path) for _ in range(count)]
    if kind not in _SCALARS:
        raise LoadingError(f"{path}: metadata of the unknown type {kind}")
    return _unpack(file, _SCALARS[kind])[0]


def _string(file: BinaryIO) -> str:
    (length,) = _unpack(file, "Q")
    return _take(file, length).decode("utf-8")


def _unpack(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack(f"<{layout}", _take(file, struct.calcsize(f"<{layout}")))


def _take(file: BinaryIO, length: int) -> bytes:
    # A damaged length must not make room for itself before the end of the file is found.
    found = file.read(length) if length <= _MOST_BYTES else b""
    if len(found) < length:
        raise struct.error(f"{length:,} bytes announced, {len(found):,} there")
    return found


def _aligned(position: int, stated: object) -> int:
    alignment = stated if isinstance(stated, int) and stated > 0 else _DEFAULT_ALIGNMENT
    return -(-position // alignment) * alignment
