"""Policies are data: they fit calls rule by rule, survive a round trip and refuse what they do not know."""

import json
from typing import Any

import pytest

from carrara.engines.errors import CarraraError
from carrara.runtime.routing.policy import AUTO, Accept, Policy, Rule, from_data, to_data


def test_the_default_policy_comes_back_from_its_data() -> None:
    assert from_data(json.loads(json.dumps(to_data(AUTO)))) == AUTO


def test_what_is_left_out_is_as_in_the_default() -> None:
    policy = from_data(
        {"accept": {"choice": 0.9, "json": {"overall": 0.7, "field": 0.1}}, "renoise": 0}
    )
    assert policy.rules == AUTO.rules
    assert policy.accepts("choice") == Accept(0.9)
    assert policy.accepts("json") == Accept(0.7, 0.1)
    assert policy.accepts("text") == AUTO.accepts("text")
    assert policy.renoise == 0


def test_rules_are_written_as_a_person_would() -> None:
    policy = from_data(
        {"rules": [{"engines": "ar", "tags": "reasoning", "prompt_tokens_over": 99}]}
    )
    assert policy.rules == (Rule(("ar",), tags=frozenset({"reasoning"}), prompt_tokens_over=99),)


@pytest.mark.parametrize(
    ("rule", "kind", "tags", "tokens", "fits"),
    [
        (Rule(("ar",)), "text", set(), 0, True),
        (Rule(("ar",), frozenset({"json"})), "text", set(), 0, False),
        (Rule(("ar",), frozenset({"json", "text"})), "text", set(), 0, True),
        (Rule(("ar",), tags=frozenset({"a", "b"})), "text", {"b", "c"}, 0, True),
        (Rule(("ar",), tags=frozenset({"a"})), "text", set(), 0, False),
        (Rule(("ar",), prompt_tokens_over=100), "text", set(), 100, False),
        (Rule(("ar",), prompt_tokens_over=100), "text", set(), 101, True),
    ],
)
def test_a_rule_fits_by_kind_tag_and_length(
    rule: Rule, kind: str, tags: set[str], tokens: int, fits: bool
) -> None:
    assert rule.fits(kind, frozenset(tags), tokens) is fits


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"renoize": 1}, "unknown key 'renoize'. Did you mean 'renoise'?"),
        ({"rules": [{"engine": "ar"}]}, "unknown key of a rule 'engine'. Did you mean 'engines'?"),
        ({"rules": [{"engines": []}]}, "a rule names no engine"),
        ({"rules": [{"engines": ["a"], "kinds": ["jsn"]}]}, "unknown contract kind 'jsn'"),
        ({"accept": {"poem": 0.5}}, "unknown contract kind 'poem'. Known: text, choice"),
        ({"accept": {"text": {"al": 0.5}}}, "unknown threshold 'al'"),
        ({"accept": {"text": 1.5}}, "lie in [0, 1]"),
        ({"accept": {"text": "high"}}, "a confidence threshold is a number"),
        ({"max_attempts": 0}, "at least 1"),
    ],
)
def test_a_wrong_policy_is_refused_with_the_reason(data: dict[str, Any], reason: str) -> None:
    with pytest.raises(CarraraError) as caught:
        from_data(data)
    assert reason in str(caught.value)


def test_kinds_without_a_threshold_of_their_own_have_the_general_one() -> None:
    assert Policy().accepts("table") == Accept()
