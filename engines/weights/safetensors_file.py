"""Writing and checking safetensors files without loading what is in them.

The format is 8 bytes of header length, a JSON header with type, shape and byte range of each tensor, and
the bytes. Tensors are written as they are computed, so a conversion needs the memory of one slab and not
of the model.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from carrara.engines.errors import LoadingError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Slabs = Iterable["NDArray[np.float32]"]

_MOST_HEADER_BYTES = 100_000_000


def write_bf16(
    path: Path, shapes: Mapping[str, Sequence[int]], slabs: Callable[[str], Slabs]
) -> None:
    """Write one file of bf16 tensors. `slabs(name)` gives the rows of a tensor as float32, in order.

    Raises:
        ValueError: a tensor's slabs do not add up to its shape.
    """
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    head = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for name, shape in shapes.items():
            written = sum(file.write(bf16(slab)) for slab in slabs(name))
            if written != 2 * math.prod(shape):
                raise ValueError(f"tensor {name!r}: {written} bytes for shape {list(shape)}")


def bf16(values: NDArray[np.float32]) -> bytes:
    """The values as little-endian bfloat16, rounded to nearest, ties to even; weights are never NaN."""
    import numpy as np

    bits = np.ascontiguousarray(values, dtype="<f4").view(np.uint32)
    rounding = (bits >> np.uint32(16)) & np.uint32(1)
    rounding += np.uint32(0x7FFF)
    rounding += bits
    rounding >>= np.uint32(16)
    return rounding.astype("<u2").tobytes()


def check(path: Path) -> None:
    """Read the header of `path` and compare the bytes it promises with the size of the file.

    Raises:
        LoadingError: the file is missing, is no safetensors file, or has another length than its header says.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            first = file.read(8)
            length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
            header = json.loads(file.read(length)) if 2 <= length <= _MOST_HEADER_BYTES else None
        ends = [t["data_offsets"][1] for n, t in (header or {}).items() if n != "__metadata__"]
    except FileNotFoundError as error:
        raise LoadingError(f"{path} does not exist") from error
    except OSError as error:
        raise LoadingError(f"{path}: cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, LookupError) as error:
        raise LoadingError(f"{path}: is not a whole safetensors file ({error})") from error
    if header is None:
        raise LoadingError(f"{path}: is not a safetensors file")
    if (whole := 8 + length + max(ends, default=0)) != size:
        raise LoadingError(f"{path}: holds {size:,} bytes, its header promises {whole:,}")


def first_cut_off(path: Path) -> str | None:
    """The first tensor whose bytes lie beyond the end of the file, None if there is none or no header."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            header = json.loads(file.read(length)) if length <= _MOST_HEADER_BYTES else {}
        starts = {
            tensor["data_offsets"][1]: name
            for name, tensor in header.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, LookupError, struct.error):
        return None
    beyond = [end for end in starts if 8 + length + end > size]
    return str(starts[min(beyond)]) if beyond else None
