"""A definition written as YAML: `loads(dumps(pipeline))` is the same pipeline."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import LiteralScalarString

from carrara.engines.diffusion.rule_table import written
from carrara.engines.request import Rule
from carrara.runtime.routing.policy import Policy
from carrara.workflows.scoring.score import Scoring
from carrara.workflows.yaml.definition import (
    Ask,
    Call,
    Constant,
    Entries,
    Expression,
    Many,
    PipelineDef,
    StepDef,
    Template,
    Use,
    Value,
)
from carrara.workflows.yaml.document_base import USUAL_RULE
from carrara.workflows.yaml.kinds import MISSING, TEXT, Field, Nullable
from carrara.workflows.yaml.notation import KIND_KEYS
from carrara.workflows.yaml.policy import policy_tree
from carrara.workflows.yaml.write_types import field_notation, notation


def dumps(pipeline: PipelineDef) -> str:
    """The pipeline as the text of a file; what it uses is named relative to its own folder."""
    inputs = {
        field.name: field_notation(_without_implied_default(field)) for field in pipeline.inputs
    }
    engines = {
        name: dict(pipeline.servers.get(name, {}))
        | _given(
            concurrency=limits.concurrency,
            requests_per_s=limits.requests_per_s,
            tokens_per_min=limits.tokens_per_min,
        )
        for name, limits in pipeline.engines.items()
    }
    whole = _given(
        name=pipeline.name,
        description=pipeline.description or None,
        inputs=_flow_values(inputs) or None,
        types={n: _block(field_notation(f)) for n, f in pipeline.types.items()} or None,
        engines=_flow_values(engines) or None,
        policy=None if pipeline.policy is None else _policy(pipeline.policy),
        score=None if pipeline.score is None else _score(pipeline.score),
        steps={step.name: _step(step, pipeline) for step in pipeline.steps},
        outputs={name: _value(value) for name, value in pipeline.outputs.items()} or None,
    )
    made = io.StringIO()
    yaml = YAML()
    yaml.width = 110
    yaml.dump(whole, made)
    return made.getvalue()


def _without_implied_default(field: Field) -> Field:
    """An optional input is null by default without saying so."""
    implied = isinstance(field.type, Nullable) and field.default is None
    return Field(field.name, field.type, field.description, MISSING) if implied else field


def _step(step: StepDef, pipeline: PipelineDef) -> dict[str, Any]:
    each, repeat = step.each, step.repeat
    found = _given(
        description=step.description or None,
        for_each=None if each is None else _value(each.items),
        limit=None if each is None else each.limit,
        merge=None if step.merge is None else dict(step.merge) or USUAL_RULE,
        when=None if step.when is None else _value(step.when),
        repeat=None if repeat is None else _given(max=repeat.max, until=_optional(repeat.until)),
        engine=step.engine,
        tags=sorted(step.tags) or None,
        retries=step.retries,
        timeout=step.timeout_s,
        concurrency=step.concurrency,
        cache=step.cache,
        inline=step.inline,
        isolated=step.isolated,
    )
    if each is not None and each.name != "item":
        found["as"] = each.name
    return {**found, **_action(step, pipeline)}


def _action(step: StepDef, pipeline: PipelineDef) -> dict[str, Any]:
    match step.does:
        case Ask() as ask:
            examples = [
                {"inputs": _constant(given), "answer": _constant(answer)}
                for given, answer in ask.examples
            ]
            settings = dict(ask.settings)
            if "stop" in settings:
                settings["stop"] = list(settings["stop"])
            if "rule" in settings:
                settings["rule"] = _rule(settings["rule"])
            return _given(
                system=None if ask.system is None else _text(ask.system.text),
                llm=_text(ask.prompt.text),
                returns=None if ask.returns == TEXT else _flow(notation(ask.returns)),
                examples=examples or None,
                validators=list(ask.validators) or None,
                **settings,
            )
        case Call(target, arguments, returns):
            found = _given(
                python=target, returns=None if returns is None else _flow(notation(returns))
            )
        case Use(inner, arguments):
            found = {"use": os.path.relpath(inner.path.resolve(), pipeline.path.resolve().parent)}
    if arguments:
        found["with"] = {name: _value(value) for name, value in arguments.items()}
    return found


def _rule(rule: Rule) -> Any:
    return _flow(written(rule)) if rule.parameters else rule.name


def _score(score: Scoring) -> dict[str, Any]:
    return _given(rule=score.rule, unordered=sorted(score.unordered) or None)


def _policy(policy: Policy) -> dict[str, Any]:
    found = policy_tree(policy)
    found["rules"] = [_flow(rule) for rule in found["rules"]]
    return found


def _optional(value: Value | None) -> Any:
    return None if value is None else _value(value)


def _value(value: Value) -> Any:
    match value:
        case Constant(found):
            return _constant(found)
        case Expression(text):
            return f"{{{{ {text} }}}}"
        case Template(text):
            return _text(text)
        case Many(items):
            return [_value(item) for item in items]
        case Entries(entries):
            return {name: _value(item) for name, item in entries.items()}


def _constant(value: Any) -> Any:
    match value:
        case str():
            return _text(value)
        case list():
            return [_constant(item) for item in value]
        case Mapping():
            return {name: _constant(item) for name, item in value.items()}
        case _:
            return value


def _text(text: str) -> str:
    """Text of several lines as a block, where YAML can write it so without changing it."""
    plain = text.isprintable() or all(line.isprintable() for line in text.split("\n"))
    if "\n" in text and plain and text == text.strip("\n") + "\n" * text.endswith("\n"):
        block: str = LiteralScalarString(text)
        return block
    return text


def _given(**parts: Any) -> dict[str, Any]:
    return {name: part for name, part in parts.items() if part is not None}


def _flow_values(parts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _flow(part) for name, part in parts.items()}


def _block(written: Any) -> Any:
    """A type with a line for each field; what is in them in one line."""
    plain = isinstance(written, dict) and not any(key in written for key in KIND_KEYS)
    return _flow_values(written) if plain else _flow(written)


def _flow(written: Any) -> Any:
    """Mappings and lists in one line: {a: b}, [c]."""
    made: Any
    if isinstance(written, dict):
        made = CommentedMap((name, _flow(part)) for name, part in written.items())
    elif isinstance(written, list):
        made = CommentedSeq(_flow(part) for part in written)
    else:
        return written
    made.fa.set_flow_style()
    return made
