"""Routing policies in YAML: what is written is what is read, and each sign of a hedge can be switched off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from carrara.engines.registry import KINDS as IN_PROCESS
from carrara.runtime.routing.accept import Accept, Agreement, Judge
from carrara.runtime.routing.misnamed import Asked
from carrara.runtime.routing.policy import (
    AUTO,
    KINDS,
    Budget,
    Hedge,
    Policy,
    Price,
    Rule,
)
from carrara.runtime.routing.rule_names import DEVICES, LANGUAGES
from carrara.workflows.yaml.mistakes import PipelineError
from carrara.workflows.yaml.policy import load_policy, policy_text

names = st.sampled_from(["diffusion", "ar", "verified", "openai", "mercury"])
words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)
some = st.frozensets(words, max_size=2)
kinds = st.sampled_from(KINDS)
shares = st.floats(0, 1)
inside = st.floats(0, 1, exclude_min=True, exclude_max=True)
positive = st.floats(1e-6, 1e6)
counts = st.integers(0, 1000)
ones = st.integers(1, 1000)


def or_none(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


plain_accepts = st.builds(
    Accept,
    overall=shares,
    field=shares,
    fields=st.dictionaries(words.map("/{}".format), shares, max_size=2),
    agreement=or_none(st.builds(Agreement, st.integers(2, 9), inside, positive)),
    judge=or_none(st.builds(Judge, names, shares, st.just("") | words)),
)
accepts = st.builds(
    replace, plain_accepts, engines=st.dictionaries(names, plain_accepts, max_size=2)
)
rules = st.builds(
    Rule,
    engines=st.lists(names, min_size=1, max_size=3, unique=True).map(tuple),
    kinds=st.frozensets(kinds),
    tags=some,
    prompt_tokens_over=st.integers(-1, 1000),
    reason=st.just("") | words,
    reasoning=or_none(st.booleans()),
    languages=st.frozensets(st.sampled_from(sorted(LANGUAGES)), max_size=2),
    devices=st.frozensets(st.sampled_from(DEVICES), max_size=2),
)
signs = st.fixed_dictionaries(
    {
        "after_s": or_none(positive),
        "times": or_none(positive),
        "share": or_none(inside),
        "passes": or_none(ones),
        "settled": shares,
    }
)
hedges = signs.filter(
    lambda found: any(found[sign] is not None for sign in ("after_s", "times", "share", "passes"))
).map(lambda found: Hedge(**found))
policies = st.builds(
    Policy,
    name=words,
    rules=st.lists(rules, max_size=3).map(tuple),
    accept=st.dictionaries(kinds, accepts),
    steps=st.dictionaries(words, accepts, max_size=2),
    renoise=counts,
    mixed=st.booleans(),
    again=counts,
    max_attempts=ones,
    give_up_after=ones,
    probe_every=ones,
    scouts=ones,
    max_wait_s=st.floats(0, 1e6),
    choose=st.sampled_from(["order", "time"]),
    break_after=ones,
    break_s=positive,
    hedge=or_none(hedges),
    budget=st.builds(Budget, or_none(st.floats(0, 1e6)), or_none(counts)),
    prices=st.dictionaries(
        names,
        st.builds(Price, st.floats(0, 1e3), st.floats(0, 1e3), or_none(st.floats(0, 1e3))),
        max_size=2,
    ),
)


def read(folder: Path, text: str, asked: Asked | None = None) -> Policy:
    path = folder / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    return load_policy(path, asked=asked)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("policies")


@given(policies)
def test_a_policy_that_is_written_is_the_policy_that_is_read(folder: Path, policy: Policy) -> None:
    assume(not policy.lonely_hedge(IN_PROCESS.__contains__))
    whole = replace(policy, accept={kind: policy.accepts(kind) for kind in KINDS})
    assert read(folder, policy_text(policy, "a comment")) == whole


def test_the_default_policy_is_read_as_it_was_written(folder: Path) -> None:
    assert read(folder, policy_text(AUTO)) == AUTO


@pytest.mark.parametrize(
    ("text", "hedge"),
    [
        ("{after_s: 2}", Hedge(after_s=2, times=None)),
        ("{share: 0.9}", Hedge(share=0.9, times=None)),
        ("{passes: 4, settled: 0.2}", Hedge(passes=4, settled=0.2, times=None)),
        ("{after_s: 2, times: null}", Hedge(after_s=2, times=None)),
        ("{after_s: 2, times: 4}", Hedge(after_s=2, times=4)),
        ("{times: 2, share: null}", Hedge(times=2)),
        ("{}", Hedge()),
        ("{settled: 0.4}", Hedge(settled=0.4)),
    ],
)
def test_a_hedge_watches_for_the_signs_that_it_names(folder: Path, text: str, hedge: Hedge) -> None:
    assert read(folder, f"policy: {{hedge: {text}, scouts: 5}}") == replace(
        AUTO, hedge=hedge, scouts=5
    )


def test_a_hedge_with_no_sign_is_refused(folder: Path) -> None:
    with pytest.raises(PipelineError, match="a hedge needs after_s, times, share or passes"):
        read(folder, "policy: {hedge: {times: null}}")


def test_a_mistake_stands_at_its_place_and_hides_no_other(folder: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        read(
            folder,
            "policy:\n"
            "  rules: [{engines: [ar, ar, diffuson], devices: gpu, languages: [en, english]}]\n"
            "  accept: {json: {fields: {zip: 0.5}}}\n"
            "  steps:\n"
            "    mood: {engines: {ar: {fields: {a/b: 0.5}}}}\n"
            "    mod: {overall: 0.5}\n",
            Asked({"mood": None}, frozenset(), True),
        )
    assert [str(mistake).partition("policy.yaml:")[2] for mistake in caught.value.mistakes] == [
        "2:21: a rule names the engine 'ar' twice: name it once",
        "2:21: unknown engine 'diffuson' in the policy. Did you mean 'diffusion'?",
        "2:50: no engine computes on a device 'gpu'; there are cpu, cuda, mps, xpu, remote. Did you mean 'cuda'?",
        "2:66: no prompt is ever found to be in 'english': languages are named by their ISO 639-1 codes, such as 'en', "
        "'de' or 'zh'.",
        "3:28: a field is named by its JSON pointer: '/zip', not 'zip'",
        "5:36: a field is named by its JSON pointer: '/a/b', not 'a/b'",
        "6:5: the policy names a step 'mod' that is not there. Did you mean 'mood'?",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty: a policy file needs 'policy'"),
        ("rules: []", "the policy file needs the key 'policy'"),
        ("policy: {}\nrule: []", "unknown key 'rule' in the policy file"),
        ("policy: {rules: [{engines: []}]}", "of the policy: must hold at least one name"),
    ],
)
def test_a_policy_file_is_told_of_as_one(folder: Path, text: str, message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        read(folder, text)
    assert message in str(caught.value)
    assert "pipeline" not in str(caught.value)
