"""Edits never leave the language of a slot, whatever a model comes to prefer; no draft calls final what they change."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.engines.contract import Contract, Json, Regex, Text
from carrara.engines.diffusion import reader
from carrara.engines.diffusion.canvas import Site, View
from carrara.engines.diffusion.editing_canvas import EditingCanvas
from carrara.engines.diffusion.free_canvas import FreeCanvas
from carrara.engines.diffusion.free_text import answered, as_answered, ended_text
from carrara.engines.diffusion.noise_canvas import NoiseCanvas
from carrara.engines.diffusion.refine import Schedule, refine
from carrara.engines.diffusion.rules import Edits, ruling
from carrara.engines.diffusion.scaffold import read
from carrara.engines.diffusion.scaffold.compile import compiled, refusal
from carrara.engines.diffusion.scaffold.layout import lay
from carrara.engines.diffusion.scaffold.lexicon import Lexicon, Row
from carrara.engines.diffusion.scaffold.nodes import Hole
from carrara.engines.diffusion.scaffold.room import Budget
from carrara.engines.diffusion.scaffold.scaffold import Scaffold
from carrara.engines.diffusion.scaffold.tree import Tree
from carrara.engines.model.config import UniformNoise
from carrara.engines.pieces import progress
from carrara.engines.request import Message, Progress, Request, Rule, Sampling
from tests.engines.finality import hold

unhurried = settings(deadline=None, max_examples=60)
SLOTS: tuple[Contract, ...] = (
    Regex("ab|cd"),
    Regex("(ab|cd|a)*e?"),
    Regex(r"\d{2}-[a-c]{1,3}"),
    Regex("(é|東|😀|ax){1,3}"),
    Json.of({"type": "string", "maxLength": 5}),
    Json.of({"type": "string", "format": "date"}),
    Json.of({"type": "string", "pattern": "^(x|yy)+z?", "minLength": 2}),
    Json.of({"type": "integer", "minimum": 7, "maximum": 123}),
    Json.of({"type": "number"}),
)
MASK, EOS, VOCABULARY = 0, 1, 20


def slot(contract: Contract, lexicon: Lexicon) -> tuple[Tree, Hole]:
    tree = Tree(Scaffold(compiled(contract), lexicon), Budget(40, 12, 2))
    return tree, next(p.leaf for p in lay(tree).placed if isinstance(p.leaf, Hole))


def test_an_edit_that_contradicts_what_followed_from_the_token_before_is_refused(
    lexicon: Lexicon,
) -> None:
    _, hole = slot(Regex("ab|cd"), lexicon)
    a, b, c = (lexicon.tokenizer.vocabulary.index(piece) for piece in (b"a", b"b", b"c"))
    while len(hole.ids) < 2:
        hole.lay(len(hole.ids) + 1)
    hole.decide([(0, a, 0.9)])
    assert hole.ids[:2] == [a, b]  # b follows
    assert not hole.edit(0, c, 0.99)
    assert hole.ids[:2] == [a, b]


@pytest.mark.parametrize("contract", SLOTS, ids=repr)
@unhurried
@given(seed=st.integers(0, 10**6))
def test_random_edits_never_leave_the_language_of_a_slot(
    contract: Contract, lexicon: Lexicon, seed: int
) -> None:
    chance = random.Random(seed)
    tree, hole = slot(contract, lexicon)
    hole.lay(len(hole.ids) + chance.randrange(4))
    if chance.random() < 0.3:
        hole.reopen(hole.ids)  # pads may stand anywhere from now on
    edited = 0
    for _ in range(40):
        at = chance.randrange(len(hole.ids))
        before, row = list(hole.ids), hole.row(at)
        assert row.mask.any()
        stands = hole.ids[at]
        assert stands is None or row.mask[stands]
        token = int(chance.choice(row.mask.nonzero()[0].tolist()))
        if chance.random() < 0.3:
            token = chance.randrange(len(row.mask))  # it may not fit
        if stands is None:
            hole.decide([(at, token, 0.5)])
            assert (hole.ids[at] == token) == bool(row.mask[token])
        elif hole.sure[at] is not None:
            assert hole.edit(at, token, 0.5) == bool(row.mask[token])
            edited += hole.ids != before
        if not row.mask[token]:
            assert hole.ids == before
        anew = Hole(hole.slot, hole.automaton, lexicon, list(hole.ids), list(hole.sure))
        assert all(hole.row(i) is anew.row(i) for i in range(len(hole.ids)))
        decided = [i for i, old in enumerate(before) if old is not None and i != at]
        assert [hole.ids[i] for i in decided] == [before[i] for i in decided]
    hole.finish()
    assert hole.automaton.accepts_tokens(hole.clean)
    tree.emit()
    contract.parse(read.text(tree.root))


def restless(lexicon: Lexicon, seed: int) -> Callable[[list[int], View], torch.Tensor]:
    """A model that is sure of something else in each pass."""
    chance = torch.Generator().manual_seed(seed)

    def forward(clean: list[int], view: View) -> torch.Tensor:
        size = (len(view.offsets), len(lexicon.tokenizer.vocabulary))
        return torch.randn(size, generator=chance) * 6

    return forward


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("threshold", [1e-6, 0.3, 0.9])
def test_contracts_hold_under_edits_by_a_model_that_changes_its_mind(
    threshold: float,
    temperature: float,
    lexicon: Lexicon,
    random_schema: Callable[[int], dict[str, Any]],
) -> None:
    contracts = [*SLOTS, *(Json.of(random_schema(seed)) for seed in range(12))]
    for seed, contract in enumerate(one for one in contracts if refusal(one) is None):
        scaffold = Scaffold(compiled(contract), lexicon)
        if scaffold.least_tokens > 300:
            continue
        tree = Tree(scaffold, Budget(300, 64, 8))
        canvas = EditingCanvas(tree, grow=True, edits=Edits(threshold, 3))
        sampling = Sampling(temperature)
        look = reader.looking(
            restless(lexicon, seed), None, sampling, torch.Generator().manual_seed(seed)
        )
        drafts: list[Progress] = []

        def watch(passes: int, canvas: EditingCanvas = canvas, into: Any = drafts) -> None:
            canvas.view()
            into.append(progress(canvas.pieces(), canvas.settled_share, passes))

        commit = ruling(Rule("edit"), lexicon.mask_id).commit
        made = refine(canvas, look, commit, Schedule(400), watch)
        text = read.text(tree.root)
        contract.parse(text)
        for draft in drafts:
            hold(draft, text)
        assert made.cut or made.passes == 0 or drafts[-1].settled == 1


def test_nothing_is_drawn_where_no_allowed_token_has_a_share() -> None:
    """Drawing by shares that are none would be an error of the device, which a GPU does not survive."""
    row = Row(np.array([False, True, True]), None)
    view = View((MASK,), (Site(0, row),), ())
    logits = torch.tensor([[1.0, -torch.inf, -torch.inf]])
    for sampling in (Sampling(), Sampling(1.0), Sampling(1.0, 0.5)):
        with pytest.raises(FloatingPointError, match="no finite logits"):
            reader.read(logits, view, reader.MaskTable(), sampling)


def letters(ids: Sequence[int]) -> str:
    return "".join(chr(96 + i) for i in ids if i not in (MASK, EOS))


@pytest.mark.parametrize("kind", ["edit", "noise"])
@unhurried
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 6))
def test_what_a_draft_of_free_text_calls_final_stays(
    kind: str, seed: int, length: int, block: int
) -> None:
    """Each token is a letter, so places in the text are places on the canvas."""
    start = [3, *[MASK] * length]
    if kind == "edit":
        canvas = FreeCanvas(start, block, MASK, decode=letters, edits=Edits(0.3, 3))
        rule = Rule("edit", {"threshold": 0.6})
    else:
        canvas = NoiseCanvas(
            start, block, MASK, decode=letters, how=UniformNoise(steps=6, stable=1, sure=0.5)
        )
        rule = Rule("entropy_bounded", {"bound": 0.5})
    chance = torch.Generator().manual_seed(seed)

    def forward(clean: list[int], view: View) -> torch.Tensor:
        logits = torch.randn(len(view.offsets), VOCABULARY, generator=chance) * 4
        logits[:, [MASK, EOS]] = -torch.inf
        return logits

    drafts: list[Progress] = []

    def watch(passes: int) -> None:
        canvas.view()
        drafts.append(progress(canvas.pieces(), canvas.settled_share, passes))

    how = ruling(rule, MASK)
    refine(canvas, reader.looking(forward, judge=how.judge), how.commit, watch=watch)
    text = letters(canvas.tokens)
    for draft in drafts:
        for span in draft.spans:
            assert draft.text[span.start : span.stop] == text[span.start : span.stop]
        assert draft.settled < 1 or draft.text == text
    assert drafts[-1].settled == 1


def words(ids: Sequence[int]) -> str:
    """Some tokens write white space, one a part of a stop string."""
    return "".join(" \nx.ab"[i % 6] for i in ids if i not in (MASK, EOS))


@pytest.mark.parametrize("kind", ["threshold", "edit", "noise"])
@unhurried
@given(
    seed=st.integers(0, 10**6),
    length=st.integers(1, 12),
    block=st.integers(1, 6),
    stop=st.sampled_from(((), ("ab",), (".", "a\n b"))),
    most=st.sampled_from((None, 3)),
)
def test_drafts_of_free_text_agree_with_its_answer(
    kind: str, seed: int, length: int, block: int, stop: tuple[str, ...], most: int | None
) -> None:
    """White space around the answer, a stop string, an end before what is decided: none of it is called final."""
    asked = Request((Message("user", ""),), Text(most), stop=stop)
    start = [MASK] * length
    how: dict[str, Any] = {
        "eos_ids": frozenset({EOS}),
        "decode": words,
        "stops": lambda text: ended_text(text, asked).is_over,
    }
    canvas = FreeCanvas(start, block, MASK, **how)
    rule = Rule("threshold", {"threshold": 0.6})
    if kind == "edit":
        canvas = FreeCanvas(start, block, MASK, **how, edits=Edits(0.3, 3))
        rule = Rule("edit", {"threshold": 0.6})
    elif kind == "noise":
        canvas = NoiseCanvas(
            start, block, MASK, **how, how=UniformNoise(steps=6, stable=1, sure=0.5)
        )
        rule = Rule("entropy_bounded", {"bound": 0.5})
    chance = torch.Generator().manual_seed(seed)

    def forward(clean: list[int], view: View) -> torch.Tensor:
        logits = torch.randn(len(view.offsets), VOCABULARY, generator=chance) * 4
        logits[:, MASK] = -torch.inf
        return logits

    drafts: list[Progress] = []

    def watch(passes: int) -> None:
        canvas.view()
        settled = canvas.settled_share
        shown = as_answered(canvas.pieces(), asked, settled >= 1)
        drafts.append(progress(shown, settled, passes))

    made = ruling(rule, MASK)
    refine(canvas, reader.looking(forward, judge=made.judge), made.commit, watch=watch)
    text = answered(ended_text(words(canvas.answer), asked))
    for draft in drafts:
        hold(draft, text)
        assert draft.text[:1].strip() or not draft.spans
        for span in draft.spans:
            assert text.startswith(draft.text[: span.stop])
    assert drafts[-1].settled == 1
