"""Routing policies in YAML: inside a pipeline, or in a file of their own whose one key is `policy`."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from carrara.engines.errors import CarraraError
from carrara.engines.registry import KINDS as IN_PROCESS
from carrara.engines.registry import kinds_by_name
from carrara.runtime.routing.accept import wrong_pointer
from carrara.runtime.routing.misnamed import Asked, misnamed
from carrara.runtime.routing.policy import AUTO, KINDS, Policy
from carrara.runtime.routing.policy_data import from_data, to_data
from carrara.runtime.routing.rule_names import wrong_device, wrong_language
from carrara.workflows.yaml.compose import read
from carrara.workflows.yaml.mistakes import Mistakes, did_you_mean
from carrara.workflows.yaml.notes import Notes
from carrara.workflows.yaml.policy_document import PolicyDoc, PolicyFileDoc
from carrara.workflows.yaml.shape import noun, read_shape
from carrara.workflows.yaml.source import Location


def read_policy(doc: PolicyDoc, engines: Collection[str], notes: Notes) -> Policy | None:
    """The policy of a document at `policy`; None, and notes, where it has mistakes."""
    for where, name in _named(doc):
        if name not in engines:
            hint = did_you_mean(name, engines) or ". `carrara engines` lists them"
            notes.at_value(where, f"unknown engine '{name}' in the policy{hint}")
    found = doc.model_dump(exclude_none=True, exclude_unset=True)
    if doc.hedge is not None:
        found["hedge"] = doc.hedge.model_dump(exclude_unset=True)  # null switches a sign off
    _drop_faults(found, notes)
    try:
        policy = from_data(found)
    except CarraraError as error:
        notes.at_key(("policy",), str(error))
        return None
    if told := policy.lonely_hedge(IN_PROCESS.__contains__):
        notes.at_key(("policy", "hedge"), told)
    return policy


def note_misnamed(policy: Policy, asked: Asked, notes: Notes) -> None:
    """Note the steps and fields that a policy at `policy` names and its workflow does not have."""
    for found in misnamed(policy, asked):
        notes.at_key(("policy", *found.place), found.message)


def load_policy(
    path: Path | str, *, engines: Collection[str] = (), asked: Asked | None = None
) -> Policy:
    """The policy in a file. `engines` are names that may be used beside those that can be opened by name: the engines
    of this process, the presets and those of the configuration file. `asked` is what the workflow asks for that the
    policy is for; None leaves the names of steps and fields unchecked.

    Raises:
        LoadingError: the configuration file is wrong.
        PipelineError: it has mistakes; all of them are in it, each with file, line and column.
    """
    mistakes = Mistakes()
    source = read(Path(path), str(path), mistakes, needs="a policy file needs 'policy'")
    found = None
    if source is not None:
        notes = Notes(source, mistakes)
        if isinstance(source.value, dict):
            doc = read_shape(PolicyFileDoc, source.value, (), notes)
            found = (
                None
                if doc is None
                else read_policy(doc.policy, (*kinds_by_name(), *engines), notes)
            )
            if found is not None and asked is not None:
                note_misnamed(found, asked, notes)
        else:
            notes.at_value(
                (), f"a policy file is a mapping with 'policy', not {noun(source.value)}"
            )
    mistakes.raise_any()
    assert found is not None
    return found


def policy_text(policy: Policy, comment: str = "") -> str:
    """The policy as the text of a file, with `comment` above it; `load_policy` is the inverse."""
    made = io.StringIO()
    yaml = YAML()
    yaml.width = 110
    yaml.dump({"policy": policy_tree(policy)}, made)
    lines = "".join(f"# {line}\n" for line in comment.splitlines())
    return lines + made.getvalue()


def policy_tree(policy: Policy) -> dict[str, Any]:
    """The policy as data of a YAML file: what is as in the default is left out. A file without thresholds for a kind of
    answer means those of the default policy, so only others stand there."""
    usual = to_data(Policy())
    accept = {kind: policy.accepts(kind) for kind in KINDS}
    others = {kind: one for kind, one in accept.items() if one != AUTO.accepts(kind)}
    found = to_data(replace(policy, accept=others))
    return {
        key: _bare(part)
        for key, part in found.items()
        if key in ("name", "rules") or part != usual[key]
    }


_SAYS_NOTHING = (("prompt_tokens_over", -1), ("reason", ""))


def _bare(part: Any) -> Any:
    """Without what says nothing: nulls, empty lists and mappings, rules' lengths that fit all."""
    if isinstance(part, dict):
        kept = {key: _bare(inner) for key, inner in part.items()}
        return {
            key: inner
            for key, inner in kept.items()
            if inner not in (None, [], {}) and (key, inner) not in _SAYS_NOTHING
        }
    return [_bare(inner) for inner in part] if isinstance(part, list) else part


def _drop_faults(found: dict[str, Any], notes: Notes) -> None:
    """Note what a policy's data holds and no policy can, and take it out, so that it does not hide other mistakes."""
    for i, rule in enumerate(found.get("rules") or ()):
        names = rule["engines"]
        rule["engines"] = list(dict.fromkeys(names))
        for name in rule["engines"]:
            if names.count(name) > 1:
                where = ("policy", "rules", i, "engines")
                notes.at_value(where, f"a rule names the engine '{name}' twice: name it once")
        for part, wrong in (("devices", wrong_device), ("languages", wrong_language)):
            for name in list(rule.get(part) or ()):
                if told := wrong(name):
                    notes.at_value(("policy", "rules", i, part), told)
                    rule[part].remove(name)
    for part in ("accept", "steps"):
        for key, accept in (found.get(part) or {}).items():
            place: Location = ("policy", part, key)
            _drop_fields(accept, place, notes)
            for name, inner in (accept.get("engines") or {}).items():
                _drop_fields(inner, (*place, "engines", name), notes)


def _drop_fields(accept: dict[str, Any], place: Location, notes: Notes) -> None:
    for pointer in list(accept.get("fields") or ()):
        if told := wrong_pointer(pointer):
            notes.at_key((*place, "fields", pointer), told)
            del accept["fields"][pointer]


def _named(doc: PolicyDoc) -> Iterator[tuple[Location, str]]:
    """Every engine that a policy names, with its place."""
    for i, rule in enumerate(doc.rules or ()):
        for name in rule.engines:
            yield ("policy", "rules", i, "engines"), name
    for part, accepts in (("accept", doc.accept), ("steps", doc.steps)):
        for key, accept in (accepts or {}).items():
            if accept.judge is not None:
                yield ("policy", part, key, "judge", "engine"), accept.judge.engine
            for name, inner in (accept.engines or {}).items():
                place: Location = ("policy", part, key, "engines", name)
                yield place, name
                if inner.judge is not None:
                    yield (*place, "judge", "engine"), inner.judge.engine
    for name in doc.prices or {}:
        yield ("policy", "prices", name), name
