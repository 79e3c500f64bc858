"""With a model that knows the answer, the canvas gives exactly that answer, and in few passes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from carrara.engines.contract import Choice, Column, Contract, Json, Outline, Table
from carrara.engines.diffusion.canvas import View
from carrara.engines.diffusion.commit import confidence_threshold
from carrara.engines.diffusion.confidence import of_tree
from carrara.engines.diffusion.reader import looking
from carrara.engines.diffusion.refine import Refined, refine
from carrara.engines.diffusion.scaffold import read
from carrara.engines.diffusion.scaffold.compile import compiled
from carrara.engines.diffusion.scaffold.layout import lay
from carrara.engines.diffusion.scaffold.lexicon import Lexicon
from carrara.engines.diffusion.scaffold.nodes import Chain, Fork, Group, Hole, Node, Step
from carrara.engines.diffusion.scaffold.room import Budget
from carrara.engines.diffusion.scaffold.scaffold import Scaffold
from carrara.engines.diffusion.scaffold.tree import Tree
from carrara.engines.diffusion.scaffold_canvas import ScaffoldCanvas


class Oracle:
    """Logits that are high at what the gold value has there; behind a list's end, at pads."""

    def __init__(self, tree: Tree, gold: Any) -> None:
        self.tree, self.gold, self.lexicon = tree, gold, tree.scaffold.lexicon

    def __call__(self, clean: list[int], view: View) -> torch.Tensor:
        right: dict[Hole | Fork, Any] = {}
        self.note(self.tree.root, self.gold, right)
        logits = torch.zeros(len(view.tokens), len(self.lexicon.tokenizer.vocabulary))
        for placed in lay(self.tree).placed:
            leaf = placed.leaf
            if isinstance(leaf, Hole):
                ids = right.get(leaf, ())
                for at in range(len(leaf.ids)):
                    token = ids[at] if at < len(ids) else self.lexicon.pad_id
                    logits[placed.start + at, token] = 20
            elif isinstance(leaf, Fork) and leaf in right:
                for depth, token in enumerate(right[leaf][: leaf.width]):
                    logits[placed.start + depth, token] = 20
        return logits[view.offsets]

    def note(self, node: Node, value: Any, right: dict[Hole | Fork, Any]) -> None:
        match node:
            case Hole():
                spelled = node.slot.write(value)
                right[node] = self.lexicon.spell(spelled) if spelled is not None else ()
            case Step():
                self.note(node.part, node.form.pick(value), right)
            case Group():
                for part in node.parts:
                    self.note(part, value, right)
            case Fork():
                options = node.plan.gate.options
                taken = next(n for n, option in enumerate(options) if option.takes(value))
                sign = (options[taken].signs or (options[taken].lead,))[0]
                pads = (self.lexicon.pad_id,) * 8
                right[node] = (*self.lexicon.spell(sign), *pads)
                if node.body is not None and taken in (node.chosen, node.expected):
                    self.note(node.body, value, right)
            case Chain():
                parts = node.items.split(value) or []
                for number, entry in enumerate(node.entries):
                    if number < len(parts):
                        self.note(entry, parts[number][1], right)
                for number, fork in enumerate(node.forks):
                    end = len(fork.plan.leads) - 1
                    after = number + 1
                    lead = fork.plan.leads[parts[after][0] if after < len(parts) else end]
                    right[fork] = (*lead, self.lexicon.pad_id)


def answered(
    contract: Contract, gold: Any, lexicon: Lexicon, budget: Budget, grow: bool = True
) -> tuple[Any, Refined, Tree]:
    tree = Tree(Scaffold(compiled(contract), lexicon), budget)
    canvas = ScaffoldCanvas(tree, grow=grow)
    done = refine(canvas, looking(Oracle(tree, gold)), confidence_threshold(0.9))
    assert not canvas.is_cramped
    return contract.parse(read.text(tree.root)), done, tree


TEAM = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "founded": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "active": {"type": "boolean"},
        "kind": {"enum": ["club", "school", None]},
        "players": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "who": {"type": "string"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["who", "tags"],
            },
        },
        "home": {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {"city": {"type": "string"}},
                    "required": ["city"],
                },
                {"type": "null"},
            ]
        },
        "scores": {"type": "object", "additionalProperties": {"type": "number"}},
        "note": {"type": "string"},
    },
    "required": ["name", "founded", "active", "kind", "players", "home", "scores"],
}
FULL = {
    "name": 'The "Höh" Kickers of the north, of the south and of everywhere between',
    "founded": 1904,
    "active": True,
    "kind": "school",
    "players": [{"who": f"Player {n}", "tags": ["fast", "tall"][: n % 3]} for n in range(7)],
    "home": {"city": "Köln"},
    "scores": {"a": 1.5, "b": -2},
    "note": "ok",
}
EMPTY = FULL | {"founded": None, "kind": None, "players": [], "home": None, "scores": {}}
del EMPTY["note"]


@pytest.mark.parametrize("gold", [FULL, EMPTY], ids=["full", "empty"])
@pytest.mark.parametrize("window", [40, 128, 1000])
def test_a_perfect_model_gives_the_gold_value(gold: Any, window: int, lexicon: Lexicon) -> None:
    found, _, _ = answered(Json.of(TEAM), gold, lexicon, Budget(2000, window, 10, 120))
    assert found == gold


def test_a_flat_record_takes_one_pass(lexicon: Lexicon) -> None:
    fields = ("street", "city", "unit")
    schema = {
        "type": "object",
        "properties": {f: {"type": ["string", "null"]} for f in fields},
        "required": list(fields),
    }
    gold = {"street": "Sherman Av", "city": "Evanston", "unit": None}
    found, done, tree = answered(Json.of(schema), gold, lexicon, Budget(200, 128, 14))
    assert found == gold
    assert done.passes == 1
    confidence = of_tree(tree)
    assert set(confidence.fields) == {"/street", "/city", "/unit"}
    assert confidence.overall is not None
    assert confidence.overall > 0.99


def test_a_list_is_read_in_fewer_passes_than_it_has_items(lexicon: Lexicon) -> None:
    gold = [f"item {number}" for number in range(30)]
    contract = Json.of({"type": "array", "items": {"type": "string"}})
    found, done, _ = answered(contract, gold, lexicon, Budget(2000, 1000, 12))
    assert found == gold
    assert done.passes <= 7


def test_a_list_longer_than_the_canvas_goes_on_in_further_ones(lexicon: Lexicon) -> None:
    gold = [{"n": number, "in": {"tag": ("a", "b")[number % 2]}} for number in range(200)]
    inner = {"type": "object", "properties": {"tag": {"enum": ["a", "b"]}}, "required": ["tag"]}
    item = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "in": inner},
        "required": ["n", "in"],
    }
    contract = Json.of({"type": "array", "items": item})
    found, done, tree = answered(contract, gold, lexicon, Budget(20_000, 256, 8, ahead=8))
    assert found == gold
    assert done.passes < 200
    fields = of_tree(tree).fields
    assert {f"/{n}/in/tag" for n in range(200)} | {f"/{n}/n" for n in range(200)} <= set(fields)


@pytest.mark.parametrize(
    "text",
    [
        "".join(map(chr, range(128))),
        "\u2028\u2029\x7f\x80\ufffe\uffff",
        "\U0010ffff\U0001f600\ud7ff\ue000",
        '"\\"\\\\/ </script> \\u0041',
    ],
)
def test_every_character_is_escaped_as_json_asks(text: str, lexicon: Lexicon) -> None:
    contract = Json.of(
        {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
    )
    found, _, _ = answered(contract, {"q": text}, lexicon, Budget(2000, 1000, 400, 400))
    assert found == {"q": text}


def test_a_full_slot_grows_until_the_text_fits(lexicon: Lexicon) -> None:
    contract = Json.of({"type": "string"})
    gold = "words and more words " * 4
    found, done, _ = answered(contract, gold, lexicon, Budget(500, 128, 10, 120))
    assert found == gold
    assert done.passes <= 12


def test_tables_outlines_and_choices_come_out_right(lexicon: Lexicon) -> None:
    table = Table((Column("name"), Column("n", "integer"), Column("ok", "boolean")))
    rows = [{"name": f"x|{n}", "n": n - 2, "ok": n % 2 == 0 or None} for n in range(5)]
    assert answered(table, rows, lexicon, Budget(600, 200, 12))[0] == rows
    tree = [
        {"text": "one", "items": [{"text": "1. two", "items": [{"text": "# three", "items": []}]}]},
        {"text": "four", "items": []},
    ]
    assert answered(Outline(), tree, lexicon, Budget(300, 200, 12))[0] == tree
    assert (
        answered(Choice(("yes", "no", "yes and no")), "yes and no", lexicon, Budget())[0]
        == "yes and no"
    )
