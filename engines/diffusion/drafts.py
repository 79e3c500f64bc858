"""Drafts of structured answers: taken up on their scaffold, with what is to be refined undecided.

The scaffold stays: only slots and choices are renoised, whatever the spans of a draft cover.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from carrara.engines.contract import Contract, Json
from carrara.engines.diffusion.scaffold import read
from carrara.engines.diffusion.scaffold.fill import Filler, forget
from carrara.engines.diffusion.scaffold.nodes import Fork, Hole, Leaf, Node, Pinned, leaves
from carrara.engines.diffusion.scaffold.tree import Tree
from carrara.engines.errors import CarraraError, EngineRefused
from carrara.engines.json_schema import strict_loads
from carrara.engines.markdown import unfenced
from carrara.engines.refining import Span, checked_spans, chosen
from carrara.engines.request import Draft

_VALUES = ("choice", "null", "union")  # the gates that say what a value is


@dataclass(frozen=True, slots=True)
class Renoised:
    """The part of a leaf that a span covers: positions `start` to `stop` (None: all) of a hole, or a choice."""

    leaf: Leaf
    start: int = 0
    stop: int | None = None


def take_draft(tree: Tree, contract: Contract, draft: Draft) -> list[list[Renoised]]:
    """Put a draft on a fresh tree: fields or spans undecided and the rest pinned, or a share of it renoised.

    What does not fit the contract is undecided too, unless spans are named. Gives what each span covers.

    Raises:
        EngineRefused: the draft cannot be read, lacks what it names, or has spans and is spelled in another way.
    """
    Filler(tree, strict=False).fill(tree.root, _value(contract, draft))
    if draft.fields and draft.spans:
        raise EngineRefused("a draft names fields or spans, not both")
    if draft.spans:
        return _take_spans(tree, draft)
    if draft.fields:
        for field in draft.fields:
            if field and not field.startswith("/"):
                raise EngineRefused(
                    f"the field {field!r} of a draft is no JSON pointer: write {f'/{field}'!r}"
                )
        missing = forget(tree, draft.fields)
        if missing:
            raise EngineRefused(f"the draft has no field {', '.join(missing)}")
    else:
        _renoise(tree.root, draft)
    return []


def _value(contract: Contract, draft: Draft) -> Any:
    try:
        if isinstance(contract, Json):
            return strict_loads(unfenced(draft.text))
        return contract.parse(draft.text)
    except (CarraraError, ValueError, RecursionError) as error:
        raise EngineRefused(f"the draft cannot be read: {error}") from error


def _take_spans(tree: Tree, draft: Draft) -> list[list[Renoised]]:
    written = read.text(tree.root)
    if written != draft.text:
        same = next(
            (n for n, (a, b) in enumerate(zip(written, draft.text, strict=False)) if a != b),
            min(len(written), len(draft.text)),
        )
        raise EngineRefused(
            f"spans count characters of the answer as it is written here, and this draft differs from character "
            f"{same} on: {draft.text[same : same + 30]!r} is {written[same : same + 30]!r}. Name fields instead."
        )
    made: dict[Span, list[Renoised]] = {span: [] for span in checked_spans(draft)}
    for leaf, begin, text in list(_places(tree.root)):
        inside = [
            (max(start - begin, 0), min(end - begin, len(text)))
            for start, end in made
            if start <= begin + len(text) and end >= begin
        ]
        if isinstance(leaf, Hole):
            _blur(tree, leaf, text, begin, inside, made)
        elif isinstance(leaf, Fork) and leaf.plan.is_choice:
            for span in made:
                if any(low < high for low, high in inside) and _overlap(span, begin, text):
                    leaf.reopen()
                    made[span].append(Renoised(leaf))
    if empty := [span for span, found in made.items() if not found]:
        named = ", ".join(f"{start} to {end}" for start, end in empty)
        raise EngineRefused(
            f"the span {named} of the draft covers structure alone: it stays as it is"
        )
    return [
        next(made[whole] for whole in made if whole[0] <= start and end <= whole[1])
        for start, end in draft.spans
    ]


def _places(root: Node) -> Iterator[tuple[Leaf, int, str]]:
    """The leaves with the text that each has in the answer, and where it begins.

    Repeated items of a list are not in the answer, but then the draft had none.
    """
    at = 0
    for leaf in leaves(root):
        text = _text_of(leaf)
        yield leaf, at, text
        at += len(text)


def _text_of(leaf: Leaf) -> str:
    match leaf:
        case Pinned():
            return leaf.text
        case Hole():
            return leaf.lexicon.text(leaf.clean)
        case Fork() if leaf.chosen is not None:
            return leaf.plan.gate.options[leaf.chosen].lead
    return ""


def _overlap(span: Span, begin: int, text: str) -> bool:
    return span[0] < begin + len(text) and span[1] > begin


def _blur(
    tree: Tree,
    hole: Hole,
    text: str,
    begin: int,
    inside: Sequence[Span],
    made: dict[Span, list[Renoised]],
) -> None:
    """Make the characters of a hole undecided that spans cover. Around them its text stays, byte for byte."""
    inside = [(low, high) for low, high in inside if low < high or 0 < low < len(text)]
    if not inside:
        return
    spell = tree.scaffold.lexicon.spell
    ids: list[int | None] = []
    ranges: list[tuple[int, int]] = []
    at = 0
    for low, high in inside:
        ids += spell(text[at:low])
        room = 2 * len(spell(text[low:high])) + 2
        ranges.append((len(ids), len(ids) + room))
        ids += [None] * room
        at = high
    ids += spell(text[at:])
    hole.reopen(ids)
    for (low, high), (start, stop) in zip(inside, ranges, strict=True):
        for span in made:
            if span[0] <= begin + low and begin + high <= span[1]:
                made[span].append(Renoised(hole, start, stop))


def _renoise(root: Node, draft: Draft) -> None:
    """Make a share of all decisions about values undecided, at least one: tokens of slots, choices, whether something
    is null and which alternative it is. Which members and how many items there are stays."""
    places: list[tuple[Hole | Fork, int]] = []
    for leaf in leaves(root):
        if isinstance(leaf, Hole):
            places += [(leaf, at) for at in range(len(leaf.ids))]
        elif isinstance(leaf, Fork) and leaf.plan.gate.kind in _VALUES:
            places.append((leaf, 0))
    if not places:
        return
    found: dict[Hole, list[int]] = {}
    for number in chosen(len(places), draft):
        leaf, at = places[number]
        if isinstance(leaf, Hole):
            found.setdefault(leaf, []).append(at)
        else:
            leaf.reopen()
    for hole, positions in found.items():
        hole.blur(positions)


__all__ = ["Renoised", "take_draft"]
