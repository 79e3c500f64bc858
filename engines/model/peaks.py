"""How large the inputs of each layer get: a few are many times as large as the others, whatever the text.

Which ones belongs to a model and hardly to a text (LLM.int8(), arXiv 2208.07339), so one short pass over text of the
kinds that are worked on finds them, and always the same for the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from carrara.engines.model.linear import JoinedLinear

if TYPE_CHECKING:
    from carrara.engines.model.llama import Llama

SAMPLE = """Extract the fields below from the text. Answer with one JSON object and nothing else; use null for a field \
the text does not give.
Fields: name, date, total, address, items

Text:
On 14 March 2024 The Golden Lion (27 Harbour Road, Leeds) charged £38.50 for 2 pies, 1 soup and a pot of tea.

{"name": "The Golden Lion", "date": "2024-03-14", "total": 38.5, "items": [{"what": "pie", "count": 2}]}

| day | visitors |
| --- | --- |
| Monday | 1,204 |

- Heat the oven to 180 °C.
- Why? Because the dough must rise before it is baked.
"""


@torch.inference_mode()
def find_peaks(model: Llama, tokens: Tensor) -> Tensor:
    """Note the `peaks` of every linear layer in a pass over tokens [1, T]; returns those of the head, [D]."""
    with _watched(model):
        positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        return _peaks(model(tokens, positions, head=False))


@contextmanager
def _watched(model: Llama) -> Iterator[None]:
    def note(layer: Any, inputs: tuple[Any, ...]) -> None:
        layer.peaks = _peaks(inputs[0])

    layers = [module for module in model.modules() if isinstance(module, JoinedLinear)]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _peaks(x: Tensor) -> Tensor:
    """[..., D] -> [D]: the largest of each input."""
    return x.detach().reshape(-1, x.shape[-1]).abs().amax(0).float()
