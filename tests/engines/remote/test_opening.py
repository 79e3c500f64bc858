"""Only the engines that a call may be routed to are opened, and one that cannot be is a refusal like any other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import carrara
from carrara.engines import registry
from carrara.engines.errors import LoadingError
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.events import Routed
from carrara.runtime.routing.facts import CallFacts
from carrara.runtime.routing.policy import Policy, Rule
from carrara.runtime.routing.reach import reach

FLOW = """
name: flow
engines:
  mine: {{preset: carrara-server, base_url: "{url}", model: m}}
policy:
  rules: [{{{rule}}}]
steps:
  mood: {{llm: "Which?", returns: {{one_of: [glad, sad]}}{step}}}
outputs: {{mood: "{{{{ mood }}}}"}}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for variable in ("CARRARA_CONFIG", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The local engines that were made; none of them has its weights, but for ar."""
    found: list[str] = []

    class Bare(ScriptedEngine):
        async def __aenter__(self) -> Any:
            raise LoadingError(f"the weights of {self.name} are gone")

    def kind(name: str) -> registry.Kind:
        def build(setting: registry.Setting) -> Any:
            found.append(name)
            return ScriptedEngine(name, ["sad"]) if name == "ar" else Bare(name, ["sad"])

        return registry.Kind(build, registry.KINDS[name].check)

    monkeypatch.setattr(registry, "KINDS", {name: kind(name) for name in registry.KINDS})
    return found


def flow(text: str) -> Any:
    Path("flow.yaml").write_text(text)
    return carrara.load_workflow("flow.yaml")


def ran(net: Any, rule: str, step: str = "") -> tuple[Any, list[Any]]:
    events: list[Any] = []

    async def main() -> Any:
        async with net.Server([net.answer(net.chat('"glad"'))]) as server:
            workflow = flow(FLOW.format(url=server.url, rule=rule, step=step))
            return (await carrara.run(workflow, listeners=[events.append])).value

    return asyncio.run(main()), [event for event in events if isinstance(event, Routed)]


def test_a_policy_of_servers_alone_opens_nothing_else(net: Any, built: list[str]) -> None:
    assert ran(net, "engines: [mine]")[0] == {"mood": "glad"}
    assert built == []


def test_a_step_that_names_its_engine_opens_that_one(net: Any, built: list[str]) -> None:
    assert ran(net, "engines: [diffusion, ar]", ", engine: mine")[0] == {"mood": "glad"}
    assert built == []


def test_where_no_rule_fits_the_usual_engines_are_opened(net: Any, built: list[str]) -> None:
    value, routed = ran(net, "engines: [mine], kinds: [json]")
    assert value == {"mood": "sad"}
    assert built == ["diffusion", "ar"]
    assert routed[0].reason == "diffusion: not open: the weights of diffusion are gone"


def test_an_engine_without_its_key_is_refused_and_the_next_one_answers(
    net: Any, built: list[str]
) -> None:
    value, routed = ran(net, "engines: [openai, mine]")
    assert value == {"mood": "glad"}
    assert routed[0].engine == "mine"
    assert "openai: not open: engine 'openai' needs a key" in routed[0].reason
    assert "export OPENAI_API_KEY" in routed[0].reason


@pytest.mark.parametrize(
    ("rule", "step", "told"),
    [
        ("engines: [openai, anthropic]", "", ("export OPENAI_API_KEY", "export ANTHROPIC_API_KEY")),
        ("engines: [mine]", ", engine: openai", ("export OPENAI_API_KEY",)),
    ],
)
def test_where_no_engine_of_a_call_can_be_opened_it_fails_with_all_reasons(
    net: Any, built: list[str], rule: str, step: str, told: tuple[str, ...]
) -> None:
    with pytest.raises(carrara.RunError) as caught:
        ran(net, rule, step)
    assert all(words in str(caught.value) for words in told)
    assert built == []


@pytest.mark.parametrize(
    ("rules", "named", "fits"),
    [
        ((Rule(("a",), frozenset({"json"})), Rule(("b",)), Rule(("c",))), ("b",), True),
        ((Rule(("a",), devices=frozenset({"cpu"})), Rule(("b",))), ("a", "b"), True),
        ((Rule(("a",), devices=frozenset({"cpu"})),), ("a",), False),
        ((Rule(("a",), frozenset({"json"})),), (), False),
    ],
)
def test_what_a_call_reaches_is_known_before_any_engine_is_open(
    rules: tuple[Rule, ...], named: tuple[str, ...], fits: bool
) -> None:
    assert reach(CallFacts("w/s", "text", 10, 10), Policy(rules=rules)) == (named, fits)
