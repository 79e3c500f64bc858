"""Whether this processor's matrix products give a row the same bits in any company.

Most do from 16 rows on. Some of Intel's choose another order of sums by the number of rows: with AMX in bfloat16, and
with two threads in float32. There answers in company may differ from those alone in their last bits.
"""

import torch
import torch.nn.functional as F

from carrara.engines.model.layer import Layer
from carrara.engines.model.llama import Llama

_ROWS = (16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256)


def products_are_steady(model: Llama) -> bool:
    """Of the shapes of the model's layers, with the threads that torch has now."""
    layer = model.layers[0]
    assert isinstance(layer, Layer)
    for linear in (layer.qkv, layer.out, layer.gate_up, layer.down):
        x = torch.randn(_ROWS[-1], linear.weight.shape[1]).to(model.dtype)
        first = [F.linear(x[:rows], linear.weight)[:16] for rows in _ROWS]
        if not all(torch.equal(first[0], other) for other in first):
            return False
    return True
