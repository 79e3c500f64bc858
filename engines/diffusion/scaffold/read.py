"""Reading a finished tree: the text of the answer, and the confidence of each of its fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from carrara.engines.diffusion.scaffold.nodes import (
    Chain,
    Fork,
    Group,
    Hole,
    Leaf,
    Node,
    OpenEnd,
    Pinned,
    Step,
    leaves,
)
from carrara.engines.json_values import json_equal
from carrara.engines.pieces import OPEN, Piece, of_tokens

Path = tuple[str | int, ...]

_VALUE = 1
"""The step to the value of a member of a mapping; that to its key is 0."""


MayChange = Callable[[Hole], Sequence[int]]
"""The positions of a hole whose tokens may still become others."""


def text(node: Node) -> str:
    """The text of a node; positions that are not decided yet write nothing."""
    return "".join(piece.text for piece in pieces(node) if piece.is_final)


def _nothing(hole: Hole) -> Sequence[int]:
    return ()


def pieces(node: Node, may_change: MayChange = _nothing) -> Iterator[Piece]:
    """The text of a node in pieces, an open one for each position that is not decided yet. What may turn out to be a
    repetition, and then be left out, is not final."""
    match node:
        case Pinned():
            yield Piece(node.text)
        case Hole():
            yield from _hole_pieces(node, may_change)
        case Fork():
            if node.chosen is None:
                yield OPEN
                return
            yield Piece(_lead(node), node.sure)
            if node.body is not None:
                yield from pieces(node.body, may_change)
        case Step():
            yield from pieces(node.part, may_change)
        case Group():
            for part in node.parts:
                yield from pieces(part, may_change)
        case Chain():
            for number, entry, stays in _entries(node, may_change):
                for piece in _entry_pieces(node, number, entry, may_change):
                    yield piece if stays else replace(piece, is_final=False)
            yield Piece(_lead(node.forks[-1]), node.forks[-1].sure) if node.is_closed else OPEN
        case OpenEnd():
            yield OPEN


def decisions(node: Node, path: Path = ()) -> Iterator[tuple[Path, Leaf]]:
    """The leaves in which something was decided, with the path of the field that each belongs to."""
    match node:
        case Hole():
            yield path, node
        case Fork():
            yield path, node
            if node.chosen is not None and node.body is not None:
                yield from decisions(node.body, path)
        case Step():
            yield from decisions(node.part, path if node.form.silent else (*path, node.form.step))
        case Group():
            for part in node.parts:
                yield from decisions(part, path)
        case Chain():
            for number, steps, entry in members(node):
                if number:
                    yield path, node.forks[number - 1]
                yield from decisions(entry, (*path, *steps))
            if node.is_closed:
                yield path, node.forks[-1]
        case Pinned() | OpenEnd():
            return


def members(chain: Chain) -> Iterator[tuple[int, Path, Node]]:
    """The entries that count: their numbers, their steps in field pointers, their nodes."""
    counters: list[int] = []
    for position, (number, entry, _) in enumerate(_entries(chain)):
        if chain.items.keyed:
            yield number, (_key(entry),), entry
        elif chain.items.nested:
            depth = chain.option(number)
            counters = [*counters[:depth], counters[depth] + 1 if depth < len(counters) else 0]
            steps = [step for count in counters for step in ("items", count)]
            yield number, tuple(steps[1:]), entry
        else:
            yield number, (position,), entry


def sure_tokens(leaf: Leaf) -> list[float]:
    """The confidences of what the model decided in a leaf. Pads behind a text's end count once."""
    if isinstance(leaf, Fork):
        return [] if leaf.sure is None else [leaf.sure]
    if not isinstance(leaf, Hole):
        return []
    pad = leaf.lexicon.pad_id
    written = [s for i, s in zip(leaf.ids, leaf.sure, strict=True) if i != pad and s is not None]
    pads = [s for i, s in zip(leaf.ids, leaf.sure, strict=True) if i == pad and s is not None]
    return written + pads[:1]


def _entry_pieces(chain: Chain, number: int, entry: Node, may_change: MayChange) -> Iterator[Piece]:
    """An entry and what leads to it."""
    if number:
        fork = chain.forks[number - 1]
        yield Piece(_lead(fork), fork.sure)
    yield from pieces(entry, may_change)


def _entries(chain: Chain, may_change: MayChange = _nothing) -> Iterator[tuple[int, Node, bool]]:
    """The entries that count, with their numbers, and whether it is known that they stay. Where repeated ones are to be
    left out, those are that cannot become anything else; an entry behind one that can may yet repeat it."""
    known = enumerate(chain.entries[: chain.settled_entries])
    if not (chain.items.distinct or chain.items.keyed):
        yield from ((number, entry, True) for number, entry in known)
        return
    seen: list[Any] = []
    stays = True
    for number, entry in known:
        if not _is_told(chain, entry, may_change):
            yield number, entry, number == 0
            stays = False
            continue
        value = _key(entry) if chain.items.keyed else json.loads(text(entry))
        if not any(json_equal(value, other) for other in seen):
            seen.append(value)
            yield number, entry, stays


def _is_told(chain: Chain, entry: Node, may_change: MayChange) -> bool:
    """Whether it is known which entry this is, and stays so."""
    return all(
        leaf.is_settled and not (isinstance(leaf, Hole) and may_change(leaf))
        for part in _telling(chain, entry)
        for leaf in leaves(part)
    )


def _telling(chain: Chain, entry: Node) -> Iterator[Node]:
    """The parts by which entries are told apart: the key of a member of a JSON object, else all of it."""
    parts = entry.parts if isinstance(entry, Group) else [entry]
    for part in parts:
        if chain.items.keyed and isinstance(part, Step) and part.form.step == _VALUE:
            return
        yield part


def _key(entry: Node) -> str:
    """The key of a member of a JSON object, as far as it is decided."""
    written = text(entry).strip()
    return str(json.JSONDecoder().raw_decode(written)[0]) if written.startswith('"') else ""


def _hole_pieces(hole: Hole, may_change: MayChange) -> Iterator[Piece]:
    """Pads are nothing, but for those that may become text."""
    if not hole.ids:
        yield OPEN
        return
    changing, pad = set(may_change(hole)), hole.lexicon.pad_id
    places = [at for at, token in enumerate(hole.ids) if token != pad or at in changing]
    shown = ((hole.ids[at], hole.sure[at]) for at in places)
    yield from of_tokens(shown, hole.lexicon.text, (at not in changing for at in places))


def _lead(fork: Fork) -> str:
    return "" if fork.chosen is None else fork.plan.gate.options[fork.chosen].lead
