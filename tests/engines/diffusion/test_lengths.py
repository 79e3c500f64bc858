"""How long a slot is at first: what its name and its limit tell."""

from __future__ import annotations

from typing import Any

import pytest

from carrara.engines.contract import Json
from carrara.engines.diffusion.scaffold.compile import compiled
from carrara.engines.diffusion.scaffold.layout import lay
from carrara.engines.diffusion.scaffold.lengths import share_of
from carrara.engines.diffusion.scaffold.lexicon import Lexicon
from carrara.engines.diffusion.scaffold.nodes import Hole
from carrara.engines.diffusion.scaffold.room import Budget
from carrara.engines.diffusion.scaffold.scaffold import Scaffold
from carrara.engines.diffusion.scaffold.tree import Tree


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("summary", 3),
        ("productDescription", 3),
        ("zip", 0.5),
        ("country_code", 0.5),
        ("name", 1),
        ("", 1),
    ],
)
def test_a_name_tells_how_long_its_text_is(name: str, share: float) -> None:
    assert share_of(name) == share


@pytest.mark.parametrize(
    ("name", "schema", "grows", "length"),
    [
        ("name", {}, True, 12),
        ("summary", {}, True, 36),
        ("zip", {}, True, 6),
        ("zip", {}, False, 12),
        ("name", {"maxLength": 10}, True, 6),
        ("name", {"maxLength": 10}, False, 12),
        ("name", {"maxLength": 400}, True, 34),
        ("count", {"type": "integer"}, True, 10),
        ("when", {"format": "date"}, True, 11),
    ],
)
def test_a_slot_begins_with_a_length_that_suits_it(
    name: str, schema: dict[str, Any], grows: bool, length: int, lexicon: Lexicon
) -> None:
    whole = {
        "type": "object",
        "properties": {name: {"type": "string", **schema}},
        "required": [name],
    }
    tree = Tree(Scaffold(compiled(Json.of(whole)), lexicon), Budget(300, 300, 12, grows=grows))
    [size] = [len(one.leaf.ids) for one in lay(tree).placed if isinstance(one.leaf, Hole)]
    assert size == length
