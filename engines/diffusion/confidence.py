"""How sure the model was, per token and per field.

A token's confidence is its probability among all tokens when it was committed: low where the model would rather have
written something else, even if its best allowed token was clear. What was pinned, or the only possibility, was not
decided and does not count. A field's confidence is the geometric mean over what was decided in
it; a gate's is the probability of the option taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from carrara.engines.diffusion.free_canvas import FreeCanvas
from carrara.engines.diffusion.scaffold.read import decisions, sure_tokens
from carrara.engines.diffusion.scaffold.tree import Tree
from carrara.engines.json_schema import pointer
from carrara.engines.request import Confidence


def of_tree(tree: Tree) -> Confidence:
    """The confidence of a finished answer under a contract."""
    fields: dict[str, list[float]] = {}
    tokens: list[float] = []
    for path, leaf in decisions(tree.root):
        sure = sure_tokens(leaf)
        tokens += sure
        if sure:
            fields.setdefault(pointer(path), []).extend(sure)
    means = {path: mean(values) for path, values in fields.items()}
    return Confidence(
        mean(tokens), {p: m for p, m in means.items() if m is not None}, tuple(tokens)
    )


def of_text(canvas: FreeCanvas) -> Confidence:
    """The confidence of free text: no fields."""
    tokens = tuple(sure for sure in canvas.sure[: len(canvas.tokens)] if sure is not None)
    return Confidence(mean(tokens), {}, tokens)


def mean(values: Sequence[float]) -> float | None:
    """The geometric mean, None of nothing."""
    if not values:
        return None
    if min(values) <= 0:
        return 0.0
    return math.exp(sum(math.log(value) for value in values) / len(values))
