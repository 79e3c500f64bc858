"""Policies are data: they fit calls rule by rule, survive a round trip and refuse what they do not know."""

import json
import math
import re
from typing import Any

import pytest

from carrara.engines.errors import CarraraError
from carrara.engines.request import Message
from carrara.runtime.routing.accept import Accept, Agreement, Judge
from carrara.runtime.routing.facts import CallFacts
from carrara.runtime.routing.language import language_of
from carrara.runtime.routing.policy import AUTO, Budget, Hedge, Policy, Price, Rule
from carrara.runtime.routing.policy_data import from_data, to_data
from carrara.runtime.routing.rule_names import LANGUAGES


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
    facts = CallFacts("flow/step", kind, tokens, 100, frozenset(tags))
    assert rule.fits(facts) is fits


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"renoize": 1}, "unknown key 'renoize'. Did you mean 'renoise'?"),
        ({"rules": [{"engine": "ar"}]}, "unknown key of a rule 'engine'. Did you mean 'engines'?"),
        ({"rules": [{"engines": []}]}, "a rule names no engine"),
        ({"rules": [{"engines": ["a"], "kinds": ["jsn"]}]}, "unknown contract kind 'jsn'"),
        ({"accept": {"poem": 0.5}}, "unknown contract kind 'poem'. Known: text, choice"),
        ({"accept": {"text": {"al": 0.5}}}, "unknown threshold 'al'"),
        ({"accept": {"text": 1.5}}, "the threshold 'overall' must be at most 1, not 1.5"),
        ({"accept": {"text": "high"}}, "a confidence threshold is a number"),
        ({"accept": {"text": {"engines": {"a": "high"}}}}, "a confidence threshold is a number"),
        ({"accept": {"text": {"engines": {"a": {"engines": {"b": 1}}}}}}, "no further engines"),
        ({"max_attempts": 0}, "at least 1"),
    ],
)
def test_a_wrong_policy_is_refused_with_the_reason(data: dict[str, Any], reason: str) -> None:
    with pytest.raises(CarraraError) as caught:
        from_data(data)
    assert reason in str(caught.value)


def test_kinds_without_a_threshold_of_their_own_have_the_general_one() -> None:
    assert Policy().accepts("table") == Accept()


def test_every_part_of_a_policy_survives_a_round_trip() -> None:
    policy = from_data(
        {
            "rules": [
                {"engines": ["a", "b"], "reasoning": False, "languages": "de", "devices": ["cpu"]}
            ],
            "steps": {
                "extract": {
                    "overall": 0.9,
                    "fields": {"/items/*/price": 0.95},
                    "agreement": {"drafts": 3},
                    "judge": "ar",
                    "engines": {"b": {"overall": 0.4}, "c": 0.6},
                }
            },
            "hedge": {"after_s": 1.5, "share": 0.95},
            "budget": {"cost": 2.5},
            "prices": {"b": {"prompt": 1, "completion": 3}},
            "choose": "order",
        }
    )
    assert from_data(json.loads(json.dumps(to_data(policy)))) == policy
    accept = policy.accepts("json", "flow/extract[7]")
    assert accept.needed("/items/3/price") == 0.95
    assert accept.needed("/items/3/name") == 0.3
    assert policy.accepts("json", "flow/other") == AUTO.accepts("json")


def test_an_engine_may_have_thresholds_of_its_own() -> None:
    outer = {"overall": 0.9, "field": 0.6, "fields": {"/zip": 0.95}, "engines": {"b": 0.4}}
    policy = from_data({"accept": {"json": outer}})
    assert policy.accepts("json", "flow/step", "a").needed("/zip") == 0.95
    own = policy.accepts("json", "flow/step", "b")
    assert (own.overall, own.field, own.needed("/zip")) == (0.4, 0.6, 0.6)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"hedge": {"after": 3}}, "unknown key of hedge 'after'. Did you mean 'after_s'?"),
        ({"budget": {"money": 3}}, "unknown key of budget 'money'"),
        ({"accept": {"json": {"judge": {"at_least": 1}}}}, "a judge names its engine"),
        ({"accept": {"json": {"agreement": {"draft": 1}}}}, "Did you mean 'drafts'?"),
        ({"choose": "fast"}, "'choose' of policy 'auto' is 'order' or 'time', not 'fast'"),
        ({"hedge": {"after_s": 0}}, "'after_s' of a hedge must be above 0, not 0"),
        ({"hedge": {"share": 1}}, "'share' of a hedge must be below 1, not 1"),
    ],
)
def test_mistakes_in_the_parts_are_named(found: Any, message: str) -> None:
    with pytest.raises(CarraraError, match=re.escape(message)):
        from_data(found)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Policy(renoise=-1), "'renoise' of policy 'auto' must be at least 0, not -1"),
        (lambda: Policy(again=1.5), "'again' of policy 'auto' must be a whole number, not 1.5"),
        (lambda: Policy(max_attempts=0), "'max_attempts' of policy 'auto' must be at least 1"),
        (lambda: Policy(break_s=0), "'break_s' of policy 'auto' must be above 0, not 0"),
        (lambda: Policy(max_wait_s=math.nan), "must be at least 0, not nan"),
        (lambda: Policy(max_wait_s=True), "must be a number, not True"),
        (lambda: Policy(steps={"sum": 0.5}), "steps['sum'] of policy 'auto' takes Accept(…)"),
        (lambda: Policy(prices={"a": 2}), "prices['a'] of policy 'auto' takes Price(…), not 2"),
        (lambda: Policy(hedge={"times": 3}), "the hedge of policy 'auto' takes Hedge(…)"),
        (lambda: Policy(rules=("ar",)), "each of the rules of policy 'auto' takes Rule(…)"),
        (lambda: Policy(rules=Rule(("ar",))), "the rules of policy 'auto' are a tuple, (Rule(…),)"),
        (lambda: Policy(accept=Accept(0.5)), "'accept' of policy 'auto' is a mapping to Accept(…)"),
        (lambda: Policy(steps=[]), "'steps' of policy 'auto' is a mapping to Accept(…), not []"),
        (lambda: Rule(()), "a rule names no engine"),
        (lambda: Rule(("ar", "x", "ar")), "a rule names the engine 'ar' twice: name it once"),
        (lambda: Rule("ar"), "names of engines in a tuple, not 'ar'"),
        (lambda: Rule(("",)), "names of engines in a tuple, not ('',)"),
        (lambda: Rule(("ar",), tags="x"), "'tags' of a rule is a set of names, frozenset({'x'})"),
        (lambda: Rule(5), "names of engines in a tuple, not 5"),
        (lambda: Rule(("ar",), tags=["a", "b"]), "a set of names, frozenset({'a', 'b'}), not ['a'"),
        (
            lambda: Rule(("ar",), tags=5),
            "'tags' of a rule is a set of names, frozenset({…}), not 5",
        ),
        (lambda: Rule(("ar",), tags=frozenset({5})), "'tags' of a rule is a set of names"),
        (lambda: Rule(("ar",), devices=frozenset({"gpu"})), "remote. Did you mean 'cuda'?"),
        (lambda: Rule(("ar",), languages=frozenset({"english"})), "ISO 639-1 codes, such as 'en'"),
        (lambda: Rule(("ar",), languages=frozenset({"en-US"})), "Did you mean 'en'?"),
        (lambda: Rule(("ar",), reasoning="yes"), "must be True or False, not 'yes'"),
        (lambda: Rule(("ar",), reason=5), "'reason' of a rule must be a text, not 5"),
        (lambda: Rule(("ar",), kinds=frozenset({"jsn"})), "Did you mean 'json'?"),
        (lambda: Rule(("ar",), prompt_tokens_over=-2), "must be at least -1, not -2"),
        (lambda: Accept(1.01), "the threshold 'overall' must be at most 1, not 1.01"),
        (lambda: Accept(field=math.nan), "the threshold 'field' must be at least 0, not nan"),
        (lambda: Accept(fields={"/zip": 2}), "the threshold of field '/zip' must be at most 1"),
        (lambda: Accept(fields={"zip": 0.5}), "by its JSON pointer: '/zip', not 'zip'"),
        (lambda: Accept(judge="ar"), "'judge' of thresholds takes Judge(…), not 'ar'"),
        (lambda: Accept(engines={"a": 0.5}), "engine 'a' takes Accept(…) as thresholds, not 0.5"),
        (lambda: Accept(fields=["/a"]), "'fields' of thresholds is a mapping of JSON pointers"),
        (lambda: Accept(fields={5: 0.5}), "each name in 'fields' of thresholds must be a text"),
        (lambda: Accept(engines=["a"]), "'engines' of thresholds is a mapping of names"),
        (lambda: Judge("a", question=5), "'question' of the judge 'a' must be a text, not 5"),
        (lambda: Agreement(1_000_000), "'drafts' of an agreement must be at most 100"),
        (lambda: Policy(mixed="no"), "'mixed' of policy 'auto' must be True or False, not 'no'"),
        (lambda: Policy(5), "the name of a policy must be a text, not 5"),
        (
            lambda: Policy(steps={5: Accept()}),
            "each name in 'steps' of policy 'auto' must be a text",
        ),
        (lambda: Judge("ar", 3), "'at_least' of the judge 'ar' must be at most 1, not 3"),
        (lambda: Agreement(1), "'drafts' of an agreement must be at least 2, not 1"),
        (lambda: Hedge(settled=2), "'settled' of a hedge must be at most 1, not 2"),
        (lambda: Hedge(passes=1.5), "'passes' of a hedge must be a whole number, not 1.5"),
        (lambda: Price(-1), "'prompt' of a price must be at least 0, not -1"),
        (lambda: Budget(cost=-1), "'cost' of a budget must be at least 0, not -1"),
        (lambda: Budget(tokens=0.5), "'tokens' of a budget must be a whole number, not 0.5"),
    ],
)
def test_an_object_is_checked_when_it_is_made(made: Any, message: str) -> None:
    with pytest.raises(CarraraError) as caught:
        made()
    assert message in str(caught.value)


def test_a_hedge_needs_somebody_to_start() -> None:
    here = {"ar", "diffusion"}.__contains__
    alone = Policy("p", (Rule(("ar",)), Rule(("diffusion",))), hedge=Hedge())
    assert "the hedge of policy 'p' has nobody to start" in alone.lonely_hedge(here)
    for able in (
        Policy("p", (Rule(("ar",)), Rule(("diffusion", "ar"))), hedge=Hedge()),
        Policy("p", (Rule(("server",)),), hedge=Hedge()),
        Policy("p", (Rule(("ar",)),)),
        Policy("p", hedge=Hedge()),
    ):
        assert able.lonely_hedge(here) == ""


@pytest.mark.parametrize(
    ("rule", "device", "fits"),
    [
        (Rule(("ar",), reasoning=True), "cpu", True),
        (Rule(("ar",), reasoning=False), "cpu", False),
        (Rule(("ar",), languages=frozenset({"de"})), "cpu", True),
        (Rule(("ar",), languages=frozenset({"en", "fr"})), "cpu", False),
        (Rule(("ar",), devices=frozenset({"cuda"})), "cpu", False),
        (Rule(("ar",), devices=frozenset({"cuda"})), "cuda", True),
    ],
)
def test_a_rule_fits_by_wording_language_and_device(rule: Rule, device: str, fits: bool) -> None:
    facts = CallFacts("flow/step", "text", 1, 100, reasoning=True, language="de")
    assert rule.fits(facts, device) is fits


def test_the_language_is_read_off_the_last_user_message() -> None:
    german = "Bitte schreiben Sie mir die Rechnung noch einmal, sie ist leider verloren gegangen."
    english = "Please send me the invoice again, it has unfortunately been lost in the mail."
    assert language_of([Message("system", english), Message("user", german)]) == "de"
    assert language_of([Message("user", german), Message("user", english)]) == "en"
    assert language_of([]) == ""


def test_all_languages_that_the_classifier_gives_may_be_named() -> None:
    language_of([Message("user", "Please send me the invoice again.")])
    from py3langid import langid

    assert set(langid.IDENTIFIER.nb_classes) <= LANGUAGES


def test_the_engines_of_a_policy_are_those_of_its_rules_and_its_judges() -> None:
    policy = Policy(
        rules=(Rule(("diffusion", "ar")),),
        accept={"json": Accept(judge=Judge("first")), "text": Accept(judge=Judge("ar"))},
        steps={"sum": Accept(engines={"ar": Accept(judge=Judge("second"))})},
    )
    assert policy.judges == ("first", "ar", "second")
    assert policy.engines == ("diffusion", "ar", "first", "second")
