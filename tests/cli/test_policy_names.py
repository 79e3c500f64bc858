"""`--policy FILE` may name every engine that can be opened, and those that the pipeline defines, in each command."""

from __future__ import annotations

from typing import Any

from carrara.runtime.routing.policy import Policy, Rule
from carrara.workflows.yaml.policy import load_policy, policy_text

OWN = """
name: own
inputs: {name: str}
engines:
  mine: {preset: openai, model: m}
steps:
  mood: {llm: "Which mood has {{ inputs.name }}?", returns: {one_of: [glad, sad]}}
outputs: {mood: "{{ mood }}"}
"""
CONFIG = '[engines.fast]\npreset = "vllm-server"\nmodel = "m"\n'


def test_run_and_plan_take_presets_configured_engines_and_the_pipelines_own(
    shell: Any, recorded: Any
) -> None:
    shell.write("own.yaml", OWN)
    shell.write("carrara.toml", CONFIG)
    policy = Policy("fitted", (Rule(("diffusion", "openai", "fast", "mine")),))
    shell.write("policy.yaml", policy_text(policy, "as calibrate writes it"))
    cassette = recorded("own.yaml", {"name": "Ada"})
    planned = shell("plan", "own.yaml", "--policy", "policy.yaml")
    assert planned.code == 0, planned.err
    assert "diffusion, then openai, then fast, then mine" in planned.out
    call = ("run", "own.yaml", "--set", "name=Ada", "--policy", "policy.yaml", "-q")
    ended = shell(*call, "--replay", cassette)
    assert ended.code == 0, ended.err
    assert ended.data == {"mood": "glad"}


def test_run_and_plan_refuse_a_name_that_nobody_knows_in_the_same_words(shell: Any) -> None:
    shell.write("own.yaml", OWN)
    shell.write("policy.yaml", "policy:\n  rules: [{engines: [opanai]}]\n")
    run = shell("run", "own.yaml", "--set", "name=Ada", "--policy", "policy.yaml", "-q")
    plan = shell("plan", "own.yaml", "--policy", "policy.yaml")
    assert (run.code, plan.code) == (2, 2)
    assert run.errors == plan.errors
    assert "unknown engine 'opanai'" in run.err


def test_what_calibrate_writes_for_a_preset_is_read_again(tmp_path: Any) -> None:
    policy = Policy("fitted", (Rule(("ar", "openai")),))
    (tmp_path / "p.yaml").write_text(policy_text(policy))
    assert load_policy(tmp_path / "p.yaml").rules == policy.rules
