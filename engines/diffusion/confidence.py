"""How sure the model was, per token and per field.

A token's confidence is its probability among all tokens when it was committed: low where the model would rather have
written something else, even if its best allowed token was clear. What was pinned, or the only possibility, was not
decided and does not count. A field's confidence is the geometric mean over what was decided in
it; a gate's is the probability of the option taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from carrara.engines.diffusion.drafts import Renoised
from carrara.engines.diffusion.free_canvas import FreeCanvas
from carrara.engines.diffusion.scaffold.nodes import Hole
from carrara.engines.diffusion.scaffold.read import decisions, sure_tokens
from carrara.engines.diffusion.scaffold.tree import Tree
from carrara.engines.json_schema import pointer
from carrara.engines.request import Confidence


def of_tree(tree: Tree, spans: Sequence[Sequence[Renoised]] = ()) -> Confidence:
    """The confidence of a finished answer under a contract, and of the spans of its draft."""
    fields: dict[str, list[float]] = {}
    tokens: list[float] = []
    for path, leaf in decisions(tree.root):
        sure = sure_tokens(leaf)
        tokens += sure
        if sure:
            fields.setdefault(pointer(path), []).extend(sure)
    means = {path: mean(values) for path, values in fields.items()}
    return Confidence(
        mean(tokens),
        {p: m for p, m in means.items() if m is not None},
        tuple(tokens),
        of_spans(spans),
    )


def of_spans(spans: Sequence[Sequence[Renoised]]) -> tuple[float | None, ...]:
    """The confidence of what was decided within each span of a draft."""
    return tuple(mean([sure for part in span for sure in _sure_within(part)]) for span in spans)


def _sure_within(part: Renoised) -> list[float]:
    leaf = part.leaf
    if not isinstance(leaf, Hole):
        return sure_tokens(leaf)
    pad = leaf.lexicon.pad_id
    here = slice(part.start, part.stop)
    pairs = [(i, s) for i, s in zip(leaf.ids[here], leaf.sure[here], strict=True) if s is not None]
    return [s for i, s in pairs if i != pad] or [s for _, s in pairs][:1]


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
