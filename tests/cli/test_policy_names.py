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


POLICY = """policy:
  rules: [{engines: [diffusion, ar]}]
  accept: {json: {fields: {/zipp: 0.3}}, table: {fields: {/*/any: 0.3}}}
  steps:
    adress: {overall: 0.5}
    where: {overall: 0.5}
    address:
      fields: {/zpi: 0.5, /zip: 0.5, /tags/*: 0.5}
      engines: {ar: {fields: {/stret: 0.2}}}
"""
ADDRESS = """
name: own
inputs: {line: str}
types:
  Address: {street: str, zip: str?, tags: [str]}
steps:
  address: {llm: "Extract from {{ line }}", returns: Address}
  where: {python: "os.path:basename", with: {p: "{{ address.street }}"}}
outputs: {address: "{{ address }}"}
"""
MISNAMED = [
    "3:28: the policy names a field '/zipp' that no json answer here has. Did you mean '/zip'?",
    "5:5: the policy names a step 'adress' that is not there. Did you mean 'address'?",
    "6:5: the policy's step 'where' asks no model: thresholds are of no use there",
    "8:16: the policy names a field '/zpi' that step 'address' does not have. Did you mean '/zip'?",
    "9:31: the policy names a field '/stret' that step 'address' does not have. "
    "Did you mean '/street'?",
]


def test_plan_validate_and_run_name_steps_and_fields_that_are_not_there(shell: Any) -> None:
    shell.write("own.yaml", ADDRESS)
    shell.write("policy.yaml", POLICY)
    for words in (("plan",), ("validate",), ("run", "--set", "line=x", "-q")):
        ended = shell(words[0], "own.yaml", *words[1:], "--policy", "policy.yaml")
        told = ended.err.removeprefix("error: ").splitlines()
        assert (ended.code, told) == (2, [f"policy.yaml:{one}" for one in MISNAMED])


def test_a_pipelines_own_policy_is_checked_with_it(shell: Any) -> None:
    shell.write("own.yaml", POLICY + ADDRESS)
    ended = shell("validate", "own.yaml")
    assert (ended.code, ended.err.splitlines()) == (2, [f"own.yaml:{one}" for one in MISNAMED])


PYTHON = """
from typing import Literal
from carrara import Policy, llm, workflow
from carrara.runtime.routing.accept import Accept
from carrara.runtime.routing.policy import Rule

@llm
def mood(text: str) -> Literal["glad", "sad"]:
    \"\"\"Which mood? {{ text }}\"\"\"

@workflow(policy=Policy(rules=(Rule(("diffusion", "opnai")),), steps={"mod": Accept(0.4)}))
def moods(text: str) -> str:
    return mood(text)
"""


def test_an_engine_that_a_policy_in_python_misspells_is_the_same_mistake_everywhere(
    shell: Any,
) -> None:
    shell.write("own.py", PYTHON)
    told = "unknown engine 'opnai' of policy 'auto'. Did you mean 'openai'?"
    calls = {
        ("validate", "own.py:moods"): f"own.py:moods: {told}",
        ("plan", "own.py:moods"): f"error: {told}",
        ("plan", "own.py:moods", "--format", "json"): f"error: {told}",
        ("run", "own.py:moods", "--set", "text=x", "-q"): f"error: {told}",
    }
    for words, line in calls.items():
        ended = shell(*words)
        assert (ended.code, ended.out, ended.err.strip()) == (2, "", line)


def test_a_step_in_python_that_names_an_engine_nobody_knows_is_a_mistake(shell: Any) -> None:
    shell.write("own.py", PYTHON.replace("@llm", '@llm(engine="difusion")').replace("opnai", "ar"))
    told = "unknown engine 'difusion' of step 'mood'. Did you mean 'diffusion'?"
    for command in ("validate", "plan"):
        ended = shell(command, "own.py:moods")
        assert (ended.code, told in ended.err) == (2, True)


def test_steps_that_only_a_policy_in_python_names_are_told(shell: Any) -> None:
    shell.write("own.py", PYTHON.replace("opnai", "openai"))
    validated = shell("validate", "own.py:moods")
    assert validated.code == 0
    assert "names a step 'mod' that is not there. Did you mean 'mood'?" in validated.err


def test_a_policy_file_is_not_checked_against_the_mistakes_of_the_workflows_own_policy(
    shell: Any,
) -> None:
    shell.write("own.py", PYTHON)
    shell.write("policy.yaml", "policy:\n  rules: [{engines: [opnai]}]\n")
    ended = shell("validate", "own.py:moods", "--policy", "policy.yaml")
    assert ended.code == 2
    assert "unknown engine 'opnai' in the policy. Did you mean 'openai'?" in ended.err


def test_what_calibrate_writes_for_a_preset_is_read_again(tmp_path: Any) -> None:
    policy = Policy("fitted", (Rule(("ar", "openai")),))
    (tmp_path / "p.yaml").write_text(policy_text(policy))
    assert load_policy(tmp_path / "p.yaml").rules == policy.rules
