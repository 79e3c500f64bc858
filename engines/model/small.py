"""Which small copies of the weights canvas passes compute with, on which device."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from carrara.engines.model.float8 import Float8Weight, can_be_float8
from carrara.engines.model.integer import IntegerWeight, can_be_integer

Small = Literal["int8", "float8"]
SmallWeight = IntegerWeight | Float8Weight


def small_kind(device: torch.device, asked: bool | None, measured: bool = False) -> Small | None:
    """int8 on CPUs, float8 on GPUs that have it, where it is `asked` for. None leaves it to the adapter: int8 where
    that was `measured` to answer as well."""
    if asked is False or not (asked or measured):
        return None
    if can_be_integer(device):
        return "int8"
    return "float8" if asked and can_be_float8(device) else None


def small_weight(kind: Small, weight: Tensor, peaks: Tensor | None = None) -> SmallWeight:
    """The copy of one weight [outputs, inputs]; `peaks` [inputs], the largest it is given, make int8 more exact."""
    return IntegerWeight(weight, peaks) if kind == "int8" else Float8Weight(weight)
