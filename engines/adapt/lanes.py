"""Parts of a step side by side: on a CPU two threads with a core each do more than one part on both cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


class Spread(Protocol):
    """`map`, begun from the last part on."""

    def __call__(self, do: Callable[[T], R], parts: Sequence[T], /) -> Iterator[R]: ...


@contextmanager
def lanes(device: torch.device) -> Iterator[Spread]:
    """`map` whose results come in order: on a CPU on as many threads as torch has, each with one of them.

    Parts are begun from the last on, so hand the largest in last. Small operations do not gain by a second core, and
    most of a training's are small.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield lambda do, parts: map(do, reversed(parts))
        return
    try:
        with ThreadPoolExecutor(threads, "carrara-lane", torch.set_num_threads, (1,)) as executor:
            yield lambda do, parts: executor.map(do, reversed(parts))
    finally:
        torch.set_num_threads(threads)
