"""What went wrong in a pass: no memory (fewer at once may do), the device gone (nothing will), or something else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

_LOST = ("CUDA error", "HIP error", "device-side assert", "MPS backend error", "NVML")
_FULL = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a pass asked for more memory than there is, on a GPU or on the host."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # CPU allocations and some libraries raise a plain RuntimeError. An asynchronous "CUDA error: out of memory" has
    # torn down the context, so it counts as lost.
    words = str(error)
    return isinstance(error, RuntimeError) and not _has(words, _LOST) and _has(words, _FULL)


def is_device_lost(error: BaseException) -> bool:
    """Whether the device takes no more work from this process: after such an error every call fails."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return False
    gone: type[Exception] | None = getattr(torch, "AcceleratorError", None)
    if gone is not None and isinstance(error, gone):
        return True
    return isinstance(error, RuntimeError) and _has(str(error), _LOST)


def _has(words: str, marks: Sequence[str]) -> bool:
    return any(mark in words for mark in marks)


@dataclass(slots=True)
class Parts(Generic[T]):
    """What became of items that share a pass.

    `failed`: those with which a pass breaks even alone, each with its error. `full_at`: the fewest items with which a
    pass ran out of memory, None if none did.
    """

    failed: list[tuple[T, Exception]] = field(default_factory=list)
    full_at: int | None = None


def in_parts(
    items: Sequence[T], work: Callable[[Sequence[T]], None], release: Callable[[], None]
) -> Parts[T]:
    """Do `work` over all items at once; where it breaks, over each half of them, down to single ones.

    So one item with which a pass breaks fails alone, and a pass that is too large becomes smaller ones. `work` may be
    repeated over the same items. `release` is called after a pass that ran out of memory, when its tensors have gone.

    Raises:
        Exception: what `work` raised when the device was lost.
    """
    found: Parts[T] = Parts()
    left = [list(items)] if items else []
    while left:
        part = left.pop(0)
        error = _error_of(work, part)
        if error is None:
            continue
        if is_device_lost(error):
            raise error
        if is_out_of_memory(error):
            found.full_at = min(found.full_at or len(part), len(part))
            release()
        if len(part) == 1:
            found.failed.append((part[0], error))
        else:
            left[:0] = [part[: len(part) // 2], part[len(part) // 2 :]]
    return found


def _error_of(work: Callable[[Sequence[T]], None], part: Sequence[T]) -> Exception | None:
    """The error without the frames that hold the tensors of the pass."""
    try:
        work(part)
    except Exception as error:
        return error.with_traceback(None)
    return None
