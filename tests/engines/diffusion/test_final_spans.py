"""What a draft of a contract calls final is in the answer: repeated entries and empty places, too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from carrara.engines.contract import Column, Contract, Hole, Infill, Json, Regex, Table
from carrara.engines.diffusion import reader
from carrara.engines.diffusion.canvas import View
from carrara.engines.diffusion.editing_canvas import EditingCanvas
from carrara.engines.diffusion.refine import Schedule, refine
from carrara.engines.diffusion.rules import Edits, ruling
from carrara.engines.diffusion.scaffold import read
from carrara.engines.diffusion.scaffold.compile import compiled
from carrara.engines.diffusion.scaffold.fill import Filler, forget
from carrara.engines.diffusion.scaffold.layout import lay
from carrara.engines.diffusion.scaffold.lexicon import Lexicon
from carrara.engines.diffusion.scaffold.nodes import Hole as Slot
from carrara.engines.diffusion.scaffold.room import Budget
from carrara.engines.diffusion.scaffold.scaffold import Scaffold
from carrara.engines.diffusion.scaffold.tree import Tree
from carrara.engines.diffusion.scaffold_canvas import ScaffoldCanvas
from carrara.engines.pieces import OPEN, Piece, progress
from carrara.engines.request import Progress, Rule, Sampling, Span
from tests.engines.finality import hold

SHORT = {"type": "string", "maxLength": 4}
PAIR = {
    "type": "object",
    "properties": {"s": {"type": "boolean"}, "t": {"type": "string", "pattern": "^[ab]$"}},
    "required": ["s", "t"],
}
WITHOUT_REPETITIONS: dict[str, Contract] = {
    "choice of keys": Json.of(
        {"type": "object", "propertyNames": {"enum": ["a", "b"]}, "additionalProperties": SHORT}
    ),
    "written keys": Json.of(
        {"type": "object", "propertyNames": {"pattern": "^[ab]$"}, "additionalProperties": SHORT}
    ),
    "one key": Json.of(
        {"type": "object", "propertyNames": {"const": "a"}, "additionalProperties": SHORT}
    ),
    "strings": Json.of(
        {
            "type": "array",
            "uniqueItems": True,
            "items": {"type": "string", "pattern": "^[ab]{1,2}$"},
        }
    ),
    "objects": Json.of({"type": "array", "uniqueItems": True, "items": PAIR}),
    "lists": Json.of(
        {
            "type": "array",
            "uniqueItems": True,
            "items": {"type": "array", "uniqueItems": True, "items": {"enum": [1, 2]}},
        }
    ),
}
WITH_EMPTY_PLACES: dict[str, Contract] = {
    "table": Table((Column("a"), Column("n", "integer"), Column("d", "date")), 2, 4),
    "infill": Infill(("Dear ", Hole(4), ", ", Hole(3), "on ", Hole(2), ".")),
}


def drafts_of(
    canvas: ScaffoldCanvas, rule: Rule, lexicon: Lexicon, seed: int
) -> Iterator[Progress]:
    """The drafts of a canvas before a model of random logits, new ones in each pass."""
    chance = torch.Generator().manual_seed(seed)
    found: list[Progress] = []

    def forward(clean: list[int], view: View) -> torch.Tensor:
        size = (len(view.offsets), len(lexicon.tokenizer.vocabulary))
        logits = torch.randn(size, generator=chance) * 6
        logits[:, lexicon.pad_id] += 9
        return logits

    def watch(passes: int) -> None:
        canvas.view()
        found.append(progress(canvas.pieces(), canvas.settled_share, passes))

    look = reader.looking(forward, None, Sampling(1.0), torch.Generator().manual_seed(seed))
    refine(canvas, look, ruling(rule, lexicon.mask_id).commit, Schedule(400), watch)
    yield from found


@pytest.mark.parametrize("name", ["threshold", "edit"])
@pytest.mark.parametrize("contract", WITHOUT_REPETITIONS.values(), ids=WITHOUT_REPETITIONS.keys())
def test_an_entry_that_may_be_left_out_as_a_repetition_is_not_final(
    contract: Contract, name: str, lexicon: Lexicon
) -> None:
    rule = Rule(name, {"edit_threshold": 0.3} if name == "edit" else {})
    edits = Edits.of(rule)
    for seed in range(6):
        tree = Tree(Scaffold(compiled(contract), lexicon), Budget(40, 64, 3))
        canvas = ScaffoldCanvas(tree) if edits is None else EditingCanvas(tree, edits=edits)
        drafts = list(drafts_of(canvas, rule, lexicon, seed))
        text = read.text(tree.root)
        contract.parse(text)
        for draft in drafts:
            hold(draft, text)


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("contract", WITH_EMPTY_PLACES.values(), ids=WITH_EMPTY_PLACES.keys())
def test_an_empty_place_that_may_yet_be_edited_is_not_inside_a_final_span(
    contract: Contract, in_order: bool, lexicon: Lexicon
) -> None:
    rule = Rule("edit", {"edit_threshold": 0.2})
    edits = Edits.of(rule)
    assert edits is not None
    for seed in range(30):
        tree = Tree(Scaffold(compiled(contract), lexicon), Budget(100, 64, 4))
        canvas = EditingCanvas(tree, edits=edits, in_order=in_order)
        drafts = list(drafts_of(canvas, rule, lexicon, seed))
        text = read.text(tree.root)
        contract.parse(text)
        for draft in drafts:
            hold(draft, text)


def test_a_pad_that_may_be_edited_parts_what_stands_around_it(lexicon: Lexicon) -> None:
    contract = Infill(("Dear", Hole(2, Regex("( a)?")), "!"))
    tree = Tree(Scaffold(compiled(contract), lexicon), Budget(40, 64, 2))
    slot = next(p.leaf for p in lay(tree).placed if isinstance(p.leaf, Slot))
    slot.decide([(0, lexicon.pad_id, 0.6)])
    assert None not in slot.ids
    apart = progress(read.pieces(tree.root, lambda hole: range(len(hole.ids))), 1.0, 1)
    assert (apart.text, apart.spans) == ("Dear!", (Span(0, 4), Span(4, 5)))
    joined = progress(read.pieces(tree.root), 1.0, 1)
    assert (joined.text, joined.spans) == ("Dear!", (Span(0, 5),))


def test_neighbours_that_are_pinned_are_one_span_unless_text_may_come_between_them() -> None:
    pieces = [Piece("ab"), Piece("", 0.5), Piece("c"), Piece("", is_final=False), Piece("d"), OPEN]
    assert progress(pieces, 0.5, 1).spans == (Span(0, 3), Span(3, 4))


def test_fields_of_a_mapping_are_forgotten_together(lexicon: Lexicon) -> None:
    """The first one's key is a choice, and open, when the second one is looked for."""
    contract = WITHOUT_REPETITIONS["choice of keys"]
    tree = Tree(Scaffold(compiled(contract), lexicon), Budget(40, 64, 3))
    Filler(tree).fill(tree.root, {"a": "x", "b": "y"})
    assert forget(tree, ["/a", "/b"]) == []
