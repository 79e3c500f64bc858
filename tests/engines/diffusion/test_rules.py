"""Every commit rule that has a name moves on, stays in its block, ends in time, and minds its own request."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.engines.contract import Choice, Json, Regex, Text
from carrara.engines.diffusion.canvas import Site, View
from carrara.engines.diffusion.editing_canvas import EditingCanvas
from carrara.engines.diffusion.engine import DiffusionEngine
from carrara.engines.diffusion.free_canvas import FreeCanvas
from carrara.engines.diffusion.judge import Judge, Trace, certainty, lead, probability
from carrara.engines.diffusion.reader import MaskTable, looking
from carrara.engines.diffusion.reader import read as read_logits
from carrara.engines.diffusion.refine import Schedule, refine
from carrara.engines.diffusion.rule_table import RULES, parsed, written
from carrara.engines.diffusion.rules import Bar, Edits, ruling
from carrara.engines.diffusion.scaffold import read
from carrara.engines.diffusion.scaffold.compile import compiled
from carrara.engines.diffusion.scaffold.lexicon import Lexicon
from carrara.engines.diffusion.scaffold.nodes import Fork, Hole, leaves
from carrara.engines.diffusion.scaffold.room import Budget
from carrara.engines.diffusion.scaffold.scaffold import Scaffold
from carrara.engines.diffusion.scaffold.tree import Tree
from carrara.engines.diffusion.scaffold_canvas import ScaffoldCanvas
from carrara.engines.diffusion.settings import Settings
from carrara.engines.errors import EngineRefused, LoadingError
from carrara.engines.local import LocalModel
from carrara.engines.request import Completion, Limits, Message, Request, Rule

unhurried = settings(deadline=None, max_examples=25)
NAMES = sorted(RULES)
MASK, VOCABULARY, EOS = 9, 10, 8
rules = st.sampled_from(NAMES).flatmap(
    lambda name: st.builds(
        Rule,
        st.just(name),
        st.fixed_dictionaries(
            {},
            optional={
                key: st.integers(int(p.least), int(min(p.most, p.least + 6))).map(float)
                if p.whole
                else st.floats(p.least, min(p.most, 8.0))
                for key, p in RULES[name].items()
            },
        ),
    )
)
Cells = list[list[tuple[float, bool]]]
cells = st.tuples(st.integers(2, 4), st.integers(1, 6)).flatmap(
    lambda shape: st.lists(
        st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    )
)


@unhurried
@given(rules, cells, st.integers(0, 9))
def test_a_rule_commits_something_undecided_in_each_row_whatever_the_others_hold(
    rule: Rule, found: Cells, step: int
) -> None:
    confidence = torch.tensor([[c for c, _ in row] for row in found], dtype=torch.float64)
    undecided = torch.tensor([[u for _, u in row] for row in found])
    commit = ruling(rule, MASK).commit
    picked = commit(confidence, undecided, step)
    assert not (picked & ~undecided).any()
    assert (picked.any(1) == undecided.any(1)).all()
    assert torch.equal(picked, commit(confidence, undecided, step))
    for row in range(len(found)):
        alone = commit(confidence[row : row + 1], undecided[row : row + 1], step)
        assert torch.equal(alone[0], picked[row])


@unhurried
@given(rules, st.integers(0, 50), st.integers(1, 20), st.integers(1, 7))
def test_free_text_is_settled_block_by_block_within_the_bound(
    rule: Rule, seed: int, length: int, block: int
) -> None:
    edits = Edits.of(rule)
    canvas = FreeCanvas([MASK] * length, block, MASK, frozenset({EOS}), edits=edits)
    chance = torch.Generator().manual_seed(seed)
    blocks: list[tuple[int, int]] = []
    before: list[list[int]] = [list(canvas.tokens)]

    def forward(clean: list[int], view: View) -> torch.Tensor:
        blocks.append((canvas.begin, canvas.end))
        logits = torch.randn(len(view.offsets), VOCABULARY, generator=chance) * 3
        logits[:, MASK] = -torch.inf
        return logits

    def watch(passes: int) -> None:
        begin, end = blocks[-1]
        now = [*canvas.tokens, *[MASK] * (length - len(canvas.tokens))]
        for at, (old, new) in enumerate(zip(before[-1], now, strict=True)):
            assert old == new or begin <= at < end or at >= len(canvas.tokens)
        before.append(now)

    how = ruling(rule, MASK)
    made = refine(canvas, looking(forward, judge=how.judge), how.commit, watch=watch)
    looks = 0 if edits is None else edits.most_more + 1
    assert MASK not in canvas.tokens
    assert made.passes <= length + len(set(blocks)) * looks
    assert all(sure is not None for sure in canvas.sure[: len(canvas.tokens)])


@pytest.mark.parametrize("name", NAMES)
def test_scaffolds_hold_under_every_rule(
    name: str, lexicon: Lexicon, random_schema: Callable[[int], dict[str, Any]]
) -> None:
    for seed in range(5):
        gates = {"gates": 0.3} if "gates" in RULES[name] and seed % 2 else {}
        contract, rule = Json.of(random_schema(seed)), Rule(name, gates)
        scaffold = Scaffold(compiled(contract), lexicon)
        if scaffold.least_tokens > 300:
            continue
        tree, edits = Tree(scaffold, Budget(300, 64, 8)), Edits.of(rule)
        canvas = (
            ScaffoldCanvas(tree, grow=True, bar=Bar.of(rule))
            if edits is None
            else EditingCanvas(tree, grow=True, edits=edits)
        )
        chance = torch.Generator().manual_seed(seed)
        said = torch.randn(128, len(lexicon.tokenizer.vocabulary), generator=chance) * 4

        def forward(clean: list[int], view: View, said: torch.Tensor = said) -> torch.Tensor:
            return said[view.offsets]  # the same in each pass: what is not decided now never is

        how = ruling(rule, lexicon.mask_id)
        look = looking(forward, judge=how.judge)
        made = refine(canvas, look, how.commit, Schedule(1000))
        contract.parse(read.text(tree.root))
        parts = list(leaves(tree.root))
        decisions = sum(len(leaf.ids) if isinstance(leaf, Hole) else 1 for leaf in parts)
        looks = 0 if edits is None else 1
        assert made.passes <= decisions * (1 + looks) + 1


@pytest.mark.parametrize("name", [name for name in NAMES if name != "edit"])
def test_slots_in_order_are_written_from_their_beginning(
    name: str, lexicon: Lexicon, random_schema: Callable[[int], dict[str, Any]]
) -> None:
    """Whatever a rule ranks by, no token is chosen while one before it in its slot is open."""
    chosen = 0
    for seed in range(5):
        contract = Json.of(random_schema(seed))
        scaffold = Scaffold(compiled(contract), lexicon)
        if scaffold.least_tokens > 300:
            continue
        tree = Tree(scaffold, Budget(300, 64, 8))
        rule = Rule(name)
        canvas = ScaffoldCanvas(tree, grow=True, bar=Bar.of(rule), in_order=True)
        chance = torch.Generator().manual_seed(seed)
        said = torch.randn(128, len(lexicon.tokenizer.vocabulary), generator=chance) * 4
        how = ruling(rule, lexicon.mask_id)

        def looked(clean: list[int], view: View, said: torch.Tensor = said) -> torch.Tensor:
            nonlocal chosen
            for hole in (leaf for leaf in leaves(tree.root) if isinstance(leaf, Hole)):  # noqa: B023
                behind = hole.sure[hole.ids.index(None) :] if None in hole.ids else []
                assert all(sure is None for sure in behind)
                chosen += sum(sure is not None for sure in hole.sure)
            return said[view.offsets]

        refine(canvas, looking(looked, judge=how.judge), how.commit, Schedule(1000))
        contract.parse(read.text(tree.root))
    assert chosen > 100


@pytest.mark.parametrize("rule", [Rule("entropy_bounded", {"bound": 2.0}), Rule("factor")], ids=str)
def test_rules_that_reckon_with_many_at_once_take_no_longer_in_order(
    rule: Rule, lexicon: Lexicon
) -> None:
    """Eight letters, each a or b with an entropy of 0.47 nats: four and a last one fit into 2. In order, that of a
    letter is not added to those behind it once more."""
    passes = {}
    for in_order in (False, True):
        tree = Tree(Scaffold(compiled(Regex("[ab]{8}")), lexicon), Budget(60, 64, 8))
        canvas = ScaffoldCanvas(tree, in_order=in_order)
        said = torch.zeros(64, len(lexicon.tokenizer.vocabulary))
        said[:, lexicon.tokenizer.vocabulary.index(b"a")] = math.log(4.5)
        how = ruling(rule, lexicon.mask_id)
        look = looking(lambda clean, view, said=said: said[view.offsets], judge=how.judge)
        passes[in_order] = refine(canvas, look, how.commit).passes
        assert read.text(tree.root) == "a" * 8
    assert passes[True] == passes[False] < 8


@pytest.mark.parametrize("name", NAMES)
def test_an_open_gate_is_decided_before_what_hangs_on_it(name: str, lexicon: Lexicon) -> None:
    """The model is sure of a value and not of whether there is one."""
    contract = Json.of({"type": "array", "items": {"type": "string", "maxLength": 3}})
    for seed in range(6):
        tree = Tree(Scaffold(compiled(contract), lexicon), Budget(60, 64, 4))
        chance = torch.Generator().manual_seed(seed)
        said = torch.randn(64, len(lexicon.tokenizer.vocabulary), generator=chance)
        said[:, lexicon.tokenizer.vocabulary.index(b"a")] = 30.0
        how = ruling(Rule(name), lexicon.mask_id)
        look = looking(lambda clean, view, said=said: said[view.offsets], judge=how.judge)
        made = refine(ScaffoldCanvas(tree), look, how.commit, Schedule(200))
        assert made.passes < 100  # in the last passes of a schedule everything is committed
        contract.parse(read.text(tree.root))


@given(st.floats(1e-6, 1), st.floats(1e-6, 1), st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_a_bar_for_gates_keeps_the_order_and_becomes_the_threshold(
    gates: float, threshold: float, chances: list[float]
) -> None:
    bar = Bar(gates, threshold)
    ranks = [bar.rank(chance) for chance in sorted(chances)]
    assert all(0 <= rank <= 1 + 1e-12 for rank in ranks)
    assert all(one <= other + 1e-12 for one, other in pairwise(ranks))
    assert bar.rank(gates) == pytest.approx(threshold)
    assert all((bar.rank(c) >= threshold - 1e-12) == (c >= gates) for c in chances)


@pytest.mark.parametrize(
    ("gates", "committed"),
    [
        (0.0, [{"a": "x"}, {"b": "x"}, {"c": "x"}]),  # none is 0.9 sure: each time the surest
        (0.5, [{"a": "x", "b": "x", "c": "x"}]),
        (0.75, [{"a": "x"}, {"b": "x"}, {"c": "x"}]),
        (0.65, [{"a": "x", "b": "x"}, {"c": "x"}]),
    ],
)
def test_gates_have_a_bar_of_their_own(
    gates: float, committed: list[dict[str, str]], lexicon: Lexicon
) -> None:
    """Three choices that the model is 0.8, 0.7 and 0.6 sure of, whatever else is decided."""
    field = {"enum": ["x", "y"]}
    properties = {name: field for name in "abc"}
    contract = Json.of({"type": "object", "properties": properties, "required": list(properties)})
    rule = Rule("threshold", {"threshold": 0.9, "gates": gates})
    tree = Tree(Scaffold(compiled(contract), lexicon), Budget(60, 64, 4))
    canvas = ScaffoldCanvas(tree, bar=Bar.of(rule))
    first = canvas.view()
    assert first is not None
    places = sorted({offset for offset, _ in first.pairs})
    said = torch.zeros(64, len(lexicon.tokenizer.vocabulary))
    for place, chance in zip(places, (0.8, 0.7, 0.6), strict=True):
        said[place, lexicon.tokenizer.vocabulary.index(b"x")] = math.log(chance / (1 - chance))
    left = []
    look = looking(lambda clean, view: said[view.offsets])
    refine(canvas, look, ruling(rule, MASK).commit, watch=lambda _: left.append(canvas.undecided))
    assert json.loads(read.text(tree.root)) == {"a": "x", "b": "x", "c": "x"}
    assert len(left) == len(committed)


def test_a_number_is_final_together_with_the_gate_that_it_hangs_on(lexicon: Lexicon) -> None:
    """The model is 0.6 sure that there is a field, and sure of what is in it."""
    contract = Json.of({"type": "object", "properties": {"a": {"type": "integer"}}})
    passes = {}
    for gates in (0.0, 0.5, 0.7):
        rule = Rule("threshold", {"threshold": 0.9, "gates": gates})
        tree = Tree(Scaffold(compiled(contract), lexicon), Budget(60, 64, 4))
        canvas = ScaffoldCanvas(tree, bar=Bar.of(rule))
        view = canvas.view()
        assert view is not None
        (fork,) = (leaf for leaf in leaves(tree.root) if isinstance(leaf, Fork))
        said = torch.zeros(64, len(lexicon.tokenizer.vocabulary))
        for offset in {site.offset for site in view.sites}:
            said[offset, lexicon.tokenizer.vocabulary.index(b"7")] = 30.0
        lead = fork.plan.leads[fork.expected or 0][fork.plan.common]
        others = len({token for _, token in view.pairs}) - 1
        said[view.pairs[0][0], lead] = math.log(0.6 / 0.4 * others)
        look = looking(lambda clean, view, said=said: said[view.offsets])
        made = refine(canvas, look, ruling(rule, MASK).commit, Schedule(20))
        assert fork.chosen == fork.expected
        passes[gates] = made.passes
    assert passes[0.5] < passes[0.7] <= passes[0.0]


# What the judges say


def view(tokens: Sequence[int], *offsets: int) -> View:
    return View(tuple(tokens), tuple(Site(offset, None) for offset in offsets), ())


def test_ranks_are_shares_from_0_to_1() -> None:
    logits = torch.tensor([[2.0, 0.0, -torch.inf], [1.0, 1.0, 1.0]])
    best, shown = logits.argmax(1), view([MASK, MASK], 0, 1)
    ranks = [float(f(shown, logits, best)[1]) for f in (probability, certainty, lead)]
    assert ranks == pytest.approx([1 / 3, 1 / 3, 0.5])
    share = 1 / (1 + torch.e**-2)
    assert float(probability(shown, logits, best)[0]) == pytest.approx(share)
    assert float(lead(shown, logits, best)[0]) == pytest.approx(share)


def test_a_trace_goes_on_while_masks_only_become_tokens() -> None:
    trace = Trace(MASK)
    trace.keep(view([1, MASK, MASK], 1, 2), torch.tensor([10.0, 20.0]))
    found = trace.of(view([1, 5, MASK], 2))
    assert found is not None
    assert (found[0].tolist(), found[1].tolist()) == ([20.0], [0])
    assert trace.of(view([2, MASK, MASK], 1, 2)) is None  # another token: another place
    assert trace.of(view([1, MASK, MASK, MASK], 1, 2)) is None  # it grew


def passes(judge: Judge, *looks: list[float]) -> list[tuple[int, float]]:
    """Token and rank of one position in passes over the same canvas."""
    shown, found = view([MASK], 0), []
    for logits in looks:
        read = read_logits(torch.tensor([logits]), shown, MaskTable(), judge=judge)
        found.append((read.tokens[0], read.sure[0]))
    return found


def test_klass_holds_back_what_still_moves() -> None:
    judge = ruling(Rule("klass", {"threshold": 0.9, "history": 1}), MASK).judge
    sure, other = [9.0, 0.0, 0.0], [0.0, 9.0, 0.0]
    ranks = [rank for _, rank in passes(judge, sure, other, other, other)]
    assert [rank >= 0.9 for rank in ranks] == [False, False, True, True]
    assert all(0.85 < rank < 0.9 for rank in ranks[:2])


def test_credit_makes_a_lasting_best_token_sure_and_is_no_part_of_what_is_reported() -> None:
    judge = ruling(Rule("credit", {"strength": 2.0, "decay": 1.0}), MASK).judge
    found = passes(judge, *[[1.0, 0.0, 0.0]] * 6)
    assert [token for token, _ in found] == [0] * 6
    assert all(late > early for (_, early), (_, late) in pairwise(found))
    kept = passes(judge, [1.0, 0.0, 0.0], [0.0, 0.1, 0.0])
    assert kept[1][0] == 0  # its credit outweighs a small lead of another token
    reading = read_logits(
        torch.tensor([[1.0, 0.0, 0.0]]), view([MASK], 0), MaskTable(), judge=judge
    )
    assert reading.chance[0] == pytest.approx(torch.e / (torch.e + 2))


def test_prophet_commits_everything_once_the_gap_suffices() -> None:
    commit = ruling(Rule("prophet", {"steps": 6, "early": 4, "middle": 2, "late": 0}), MASK).commit
    gaps = torch.tensor([[3.0, 5.0, 3.2, 1.0, 2.0, 0.5]])
    confidence, everywhere = gaps.sigmoid(), torch.ones(1, 6, dtype=torch.bool)
    counts = [int(commit(confidence, everywhere, step).sum()) for step in range(6)]
    assert counts == [1, 2, 6, 6, 6, 6]  # the mean is 2.45


# Editing


def test_edits_replace_what_the_model_comes_to_doubt() -> None:
    canvas = FreeCanvas([3, MASK, MASK], 3, MASK, edits=Edits(0.9, 4))
    looks = 0

    def forward(clean: list[int], view: View) -> torch.Tensor:
        nonlocal looks
        looks += 1
        logits = torch.zeros(3, VOCABULARY)
        logits[1, 4 if looks == 1 else 5] = 9.0  # it changes its mind about the second token
        logits[2, 6] = 2.0
        return logits[view.offsets]

    made = refine(canvas, looking(forward), ruling(Rule("edit"), MASK).commit)
    assert canvas.tokens == [3, 5, 6]  # what was given stays
    assert made.passes == 3  # two to fill and edit, one in which nothing changes


def test_edits_of_a_slot_keep_its_language(lexicon: Lexicon) -> None:
    contract = Json.of(
        {
            "type": "object",
            "properties": {"n": {"type": "string", "pattern": "^[ab]{3}$"}},
            "required": ["n"],
        }
    )
    tree = Tree(Scaffold(compiled(contract), lexicon), Budget(60, 64, 8))
    canvas = EditingCanvas(tree, edits=Edits(0.9, 4))
    looks = 0

    def forward(clean: list[int], view: View) -> torch.Tensor:
        nonlocal looks
        looks += 1
        logits = torch.zeros(len(view.tokens), len(lexicon.tokenizer.vocabulary))
        for spelled, value in ((b"a", 9.0 if looks == 1 else 0.0), (b"b", 9.0), (b"c", 99.0)):
            if looks > 1 or spelled == b"a":
                logits[:, lexicon.tokenizer.vocabulary.index(spelled)] = value
        return logits[view.offsets]

    refine(canvas, looking(forward), ruling(Rule("edit"), lexicon.mask_id).commit)
    assert contract.parse(read.text(tree.root)) == {"n": "bbb"}


# In the engine

ADDRESS = Json.of(
    {
        "type": "object",
        "properties": {"street": {"type": "string"}, "unit": {"type": ["integer", "null"]}},
        "required": ["street", "unit"],
    }
)


def ask(rule: Rule | None, words: str = "the cat", output: Any = ADDRESS) -> Request:
    return Request((Message("user", words),), output, Limits(40), rule=rule)


def answers(folder: Path, requests: Sequence[Request], together: bool) -> list[Completion]:
    async def main() -> list[Completion]:
        local = LocalModel.open(folder, dtype=torch.float32, device="cpu", threads=1)
        async with DiffusionEngine(local) as engine:
            if together:
                return list(await asyncio.gather(*map(engine.complete, requests)))
            return [await engine.complete(request) for request in requests]

    return asyncio.run(main())


def test_every_rule_answers_alike_alone_and_beside_the_others(tiny_folder: Path) -> None:
    requests = [
        ask(Rule(name), "the cat sat " * number, output)
        for number, name in enumerate(NAMES)
        for output in (ADDRESS, Text(), Choice(("one", "two", "three")))
    ]
    alone, together = (answers(tiny_folder, requests, way) for way in (False, True))
    for request, one, other in zip(requests, alone, together, strict=True):
        assert (one.text, one.usage.passes) == (other.text, other.usage.passes)
        assert request.output.parse(one.text) == one.value


@pytest.mark.parametrize("end", ["least", "most"])
def test_parameters_at_the_ends_of_their_ranges_work(tiny_folder: Path, end: str) -> None:
    asked = [
        ask(Rule(name, {key: getattr(parameter, end)}), output=output)
        for name, table in RULES.items()
        for key, parameter in table.items()
        for output in (ADDRESS, Text())
    ]
    for request, answer in zip(asked, answers(tiny_folder, asked, True), strict=True):
        assert request.output.parse(answer.text) == answer.value


def test_rules_differ_in_the_passes_they_take(tiny_folder: Path) -> None:
    asked = (Rule("fixed_steps", {"steps": 3}), Rule("threshold", {"threshold": 1.0}), None)
    few, many, usual = answers(tiny_folder, [ask(rule, output=Text()) for rule in asked], False)
    assert few.usage.passes < usual.usage.passes <= many.usage.passes


@pytest.mark.parametrize(
    ("rule", "wrong"),
    [
        (Rule("treshold"), "unknown commit rule 'treshold'. Did you mean 'threshold'?"),
        (Rule("factor", {"factr": 1}), "unknown parameter 'factr'. Did you mean 'factor'?"),
        (Rule("factor", {"factor": -1}), "factor is a number from 0 to 1,000, not -1"),
        (
            Rule("fixed_steps", {"steps": 10**400}),
            "steps is a whole number from 1 to 65,536, not 1",
        ),
        (Rule("credit", {"strength": 1e308}), "strength is a number from 0 to 100, not 1e+308"),
        (Rule("klass", {"history": 1.5}), "history is a whole number from 1 to 16, not 1.5"),
        (Rule("verified"), "is an engine of its own"),
    ],
)
def test_a_rule_that_does_not_exist_is_refused(tiny_folder: Path, rule: Rule, wrong: str) -> None:
    with pytest.raises(EngineRefused) as refused:
        answers(tiny_folder, [ask(rule)], False)
    assert wrong in str(refused.value)
    with pytest.raises(LoadingError) as failed:
        Settings(rule=rule)
    assert wrong in str(failed.value)


def test_an_adapter_names_its_rule_in_its_settings(tmp_path: Path) -> None:
    path = tmp_path / "diffusion.json"
    path.write_text(json.dumps({"threshold": 0.8, "rule": {"name": "klass", "drift": 0.5}}))
    found = Settings.of_adapter(tmp_path)
    assert found.rule == Rule("klass", {"drift": 0.5})
    assert found.rule_of().parameters == {"threshold": 0.8, "drift": 0.5, "history": 2}
    assert found.rule_of(Rule("factor")).parameters == {"factor": 1.0}
    assert written(parsed("factor")) == {"name": "factor"}
    path.write_text(json.dumps({"rule": {"nam": "klass"}}))
    with pytest.raises(
        LoadingError, match=r"diffusion.json: a rule is a name or an object with one"
    ):
        Settings.of_adapter(tmp_path)


def test_a_model_folder_names_its_rule_beside_its_weights(
    tiny_folder: Path, tmp_path: Path
) -> None:
    for file in tiny_folder.iterdir():
        shutil.copyfile(file, tmp_path / file.name)
    named = {"rule": {"name": "fixed_steps", "steps": 2}, "most_steps": None}
    (tmp_path / "diffusion.json").write_text(json.dumps(named))
    (few,), (usual,) = (
        answers(folder, [ask(None, output=Text())], False) for folder in (tmp_path, tiny_folder)
    )
    assert few.usage.passes <= 2 * 2  # two blocks of 32 tokens
    assert few.usage.passes < usual.usage.passes
