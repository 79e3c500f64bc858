"""`carrara validate` and `carrara plan`: look at a workflow before it runs."""

from __future__ import annotations

import json
from enum import Enum
from typing import Annotated

import typer

from carrara.cli.options import PolicyOption
from carrara.cli.outcome import USAGE, note, usage
from carrara.cli.who import engine_names, policy_for

_TARGET = Annotated[
    str,
    typer.Argument(help="file.yaml, file.py[:name] or package.module:name.", metavar="WORKFLOW"),
]
_TARGETS = Annotated[
    list[str],
    typer.Argument(help="file.yaml, file.py[:name] or package.module:name.", metavar="WORKFLOW..."),
]


class Format(Enum):
    TEXT = "text"
    MERMAID = "mermaid"
    JSON = "json"


def validate(targets: _TARGETS, policy: PolicyOption = None) -> None:
    """Check definitions without running them, and whether a policy fits them. Every mistake is named with its place;
    exit code 2 if any."""
    from carrara.workflows.errors import DefinitionError
    from carrara.workflows.plan import plan as make_plan
    from carrara.workflows.target import load_workflows

    wrong = False
    for target in targets:
        try:
            found = [
                make_plan(workflow, policy=None if policy is None else policy_for(policy, workflow))
                for workflow in load_workflows(target)
            ]
        except DefinitionError as error:
            note(str(error))
            wrong = True
            continue
        for made in found:
            if mistakes := (*made.mistakes, *(f"{target}: {told}" for told in made.unknown)):
                for mistake in mistakes:
                    note(mistake)
                wrong = True
                continue
            steps = f"{len(made.steps)} step{'' if len(made.steps) == 1 else 's'}"
            print(f"{target}: workflow {made.name!r} is well defined, {steps}")
            for remark in made.notes:
                note(f"{target}: note: {remark}")
    if wrong:
        raise typer.Exit(USAGE)


def plan(
    target: _TARGET,
    form: Annotated[Format, typer.Option("--format", "-f", help="How to print it.")] = Format.TEXT,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="An input to plan with; the others get samples.", metavar="NAME=VALUE"
        ),
    ] = None,
    engines: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            help="The engines that will be open, with commas between or each with its own --engine.",
        ),
    ] = None,
    policy: PolicyOption = None,
    journal: Annotated[
        str | None, typer.Option(help="Take the times of earlier runs from this journal.")
    ] = None,
) -> None:
    """Show steps, edges, contracts, engines and the critical path. Runs nothing."""
    from carrara.engines.registry import kinds_by_name
    from carrara.runtime.journal.reading import DEFAULT_PATH, Reader
    from carrara.workflows.engine_room import DEFAULT_ENGINES, engines_of
    from carrara.workflows.inputs import InputReader, assignments
    from carrara.workflows.plan import plan as make_plan
    from carrara.workflows.target import load_workflow

    workflow = load_workflow(target)
    only = engine_names(engines or (), lambda: workflow)
    values = InputReader(workflow).read(assignments(given or ()), partial=True)
    times = {}
    if journal is not None or DEFAULT_PATH.exists():
        with Reader.open(journal or DEFAULT_PATH) as reader:
            times = dict(reader.durations(workflow.name))
    chosen = None if policy is None else policy_for(policy, workflow)
    named, servers = engines_of(workflow)
    more = () if chosen is None else chosen.engines
    known = kinds_by_name(servers)
    opened = only or [
        name for name in dict.fromkeys((*DEFAULT_ENGINES, *named, *more)) if name in known
    ]
    found = make_plan(workflow, values, engines=opened, policy=chosen, durations=times)
    if found.unknown:
        raise usage("\n".join(found.unknown))
    match form:
        case Format.TEXT:
            print(found.text())
        case Format.MERMAID:
            print(found.mermaid())
        case Format.JSON:
            print(json.dumps(found.data(), indent=2, ensure_ascii=False))
