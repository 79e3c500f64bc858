"""Tensors on their way from the device to the host."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Transfer:
    """A copy that begins now, behind what was launched before: on a GPU into pinned memory, and what is launched after
    it goes on meanwhile. On a CPU nothing moves."""

    def __init__(self, source: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._here = source
        if source.device.type == "cuda":
            self._here = torch.empty(source.shape, dtype=source.dtype, pin_memory=True)
            self._here.copy_(source, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def values(self) -> Any:
        """All values as a list, once they are here."""
        self._wait()
        return self._here.tolist()

    def number(self) -> float:
        """The only value, once it is here."""
        self._wait()
        return float(self._here.numpy())

    def _wait(self) -> None:
        if self._event is not None:
            self._event.synchronize()
