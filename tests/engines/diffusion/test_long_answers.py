"""What a pass costs on a long answer: nothing is done anew for what is final, nor once for each pair of positions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest

from carrara.engines.contract import Column, Contract, Json, Regex, Table
from carrara.engines.diffusion.scaffold.compile import compiled
from carrara.engines.diffusion.scaffold.layout import lay
from carrara.engines.diffusion.scaffold.lexicon import Lexicon
from carrara.engines.diffusion.scaffold.nodes import Fork, Hole, Leaf, Node, OpenEnd, leaves
from carrara.engines.diffusion.scaffold.room import Budget
from carrara.engines.diffusion.scaffold.scaffold import Scaffold
from carrara.engines.diffusion.scaffold.tree import Tree
from carrara.engines.diffusion.scaffold_canvas import ScaffoldCanvas

ITEM = {
    "type": "object",
    "properties": {"a": {"type": "boolean"}, "b": {"type": "array", "items": {"type": "null"}}},
    "required": ["a", "b"],
}


def calls_of(work: Callable[[], object]) -> int:
    """How many Python functions `work` calls."""
    calls = 0

    def seen(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def tree_of(contract: Contract, lexicon: Lexicon, window: int = 48) -> Tree:
    scaffold = Scaffold(compiled(contract), lexicon)
    return Tree(scaffold, Budget(scaffold.least_tokens + 4000, window, 4))


def rows(count: int) -> Contract:
    return Table((Column("a", "boolean"), Column("b", "integer")), count, count)


def items(count: int) -> Contract:
    return Json.of({"type": "array", "items": ITEM, "minItems": count, "maxItems": count})


@pytest.mark.parametrize("made", [rows, items])
def test_a_list_costs_as_much_an_item_however_many_are_final(
    made: Callable[[int], Contract], lexicon: Lexicon
) -> None:
    few, many = (
        calls_of(ScaffoldCanvas(tree_of(made(count), lexicon)).finish) for count in (60, 240)
    )
    assert many < 5 * few


@pytest.mark.parametrize(
    "contract", [rows(30), items(30), Json.of({"type": "array", "items": ITEM})]
)
def test_what_is_over_is_counted_as_what_it_was(contract: Contract, lexicon: Lexicon) -> None:
    tree = tree_of(contract, lexicon)
    canvas = ScaffoldCanvas(tree)
    while not tree.is_finished:
        for placed in lay(tree).placed:
            if isinstance(placed.leaf, Hole):
                placed.leaf.finish()
            elif (
                isinstance(placed.leaf, Fork)
                and not placed.leaf.is_settled
                and canvas._goes_on(placed)
            ):
                canvas._finish_fork(placed.leaf)
        tree.emit()
        assert on_canvas(tree, with_over=False) == on_canvas(tree, with_over=True)
        assert tree.room.positions(tree.root) == whole_positions(tree)
    assert not [leaf for leaf in leaves(tree.root, with_over=False) if isinstance(leaf, Hole)]


def on_canvas(tree: Tree, with_over: bool) -> list[Leaf]:
    """The leaves that are made and not emitted."""
    found = leaves(tree.root, with_over)
    return [leaf for leaf in found if not leaf.emitted and not isinstance(leaf, OpenEnd)]


def whole_positions(tree: Tree) -> int:
    """The positions that a tree takes, counted from its beginning."""
    groups = [node for node in nodes(tree.root) if hasattr(node, "over")]
    known = [node.over for node in groups]
    for node in groups:
        node.over = type(node.over)()
    found = tree.room.positions(tree.root)
    for node, over in zip(groups, known, strict=True):
        node.over = over
    return found


def nodes(node: Node) -> list[Node]:
    inner = [
        *getattr(node, "parts", ()),
        *getattr(node, "entries", ()),
        *(part for name in ("part", "body") if (part := getattr(node, name, None)) is not None),
    ]
    return [node, *(deeper for part in inner for deeper in nodes(part))]


def filled(length: int, lexicon: Lexicon) -> Callable[[], None]:
    """Deciding a slot of so many positions, a third of them at a time, and then the rest of it."""
    tree = tree_of(Regex("([ab][cd])*"), lexicon, length + 2)
    hole = next(placed.leaf for placed in lay(tree).placed if isinstance(placed.leaf, Hole))
    hole.lay(length)
    a, c = (lexicon.tokenizer.vocabulary.index(piece) for piece in (b"a", b"c"))

    def work() -> None:
        for third in range(2):
            hole.decide([(at, (a, c)[at % 2], 0.5) for at in range(third, length, 3)])
        hole.finish()

    return work


def test_deciding_a_slot_costs_as_much_a_position_however_long_it_is(lexicon: Lexicon) -> None:
    few, many = (calls_of(filled(length, lexicon)) for length in (60, 240))
    assert many < 5 * few
