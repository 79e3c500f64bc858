"""Who answers, by the options --engine, --model, --quick and --policy: a job keeps those that it was begun with."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from carrara.cli.outcome import usage

if TYPE_CHECKING:
    from carrara.runtime.routing.policy import Policy
    from carrara.workflows.calls import Definition

AUTO = "auto"
"""The engine option that leaves the choice to the router."""

_OPTIONS = ("engine", "model", "quick", "policy")

WorkflowMaker = Callable[[], "Definition[..., Any]"]
"""Gives the workflow that a command is about; it is loaded only where it is needed."""


def engine_names(given: Sequence[str], workflow: WorkflowMaker | None = None) -> tuple[str, ...]:
    """The engines that an option names, each once: it may be given several times, and hold names with commas between.
    Raises Exit where one is called neither as one of `carrara engines` nor as one of the workflow's own."""
    from carrara.engines.errors import LoadingError
    from carrara.engines.registry import KINDS, kinds_by_name, known
    from carrara.workflows.engine_room import engines_of

    found = tuple(dict.fromkeys(name.strip() for one in given for name in one.split(",")))
    try:
        there: Collection[str] = KINDS
        if any(name not in there for name in found):
            there = kinds_by_name(engines_of(workflow())[1] if workflow is not None else None)
        for name in found:
            known(name, there)
    except LoadingError as error:
        raise usage(f"--engine: {error}") from error
    return found


def policy_for(path: Path, workflow: Definition[..., Any] | None) -> Policy:
    """The policy in a file; it may name the engines that the workflow defines, and the steps and fields that it has.
    Raises PipelineError for mistakes."""
    from carrara.workflows.asked import asked_by
    from carrara.workflows.engine_room import engines_of
    from carrara.workflows.yaml.policy import load_policy

    if workflow is None:
        return load_policy(path)
    return load_policy(path, engines=tuple(engines_of(workflow)[1]), asked=asked_by(workflow))


def check_model(name: str, option: str) -> None:
    """Raises Exit where no model is called so, and for a folder that holds none. Loads nothing."""
    from carrara.engines.errors import LoadingError
    from carrara.engines.weights import store
    from carrara.engines.weights.folder import check_folder

    try:
        found = store.find(name)
        if isinstance(found, Path):
            check_folder(found)
    except LoadingError as error:
        raise usage(f"{option}: {error}") from error


@dataclass(frozen=True, slots=True)
class Who:
    """`engine` may be several names with commas between. `quick` None: as carrara.toml says. `told`: those of the
    options that the command line gives."""

    engine: str = AUTO
    model: str | None = None
    quick: bool | None = None
    policy: Path | None = None
    told: frozenset[str] = frozenset()

    def given(self, context: typer.Context) -> Who:
        """The same with what the command line gives."""
        return replace(self, told=frozenset(name for name in _OPTIONS if is_given(context, name)))

    @property
    def kept(self) -> dict[str, Any]:
        """What a job keeps: all that is not the default. Paths hold from any folder."""
        model = self.model
        if model is not None and Path(model).exists():
            model = os.path.abspath(model)
        found = {
            "engine": None if self.engine == AUTO else self.engine,
            "model": model,
            "quick": self.quick,
            "policy": None if self.policy is None else os.path.abspath(self.policy),
        }
        return {name: value for name, value in found.items() if value is not None}

    def as_begun(self, kept: Mapping[str, Any]) -> Who:
        """The same with who answered when the job began, where the command line does not say otherwise. An engine that
        it names has its own weights, not those of the one before."""
        without = self.told | ({"model", "quick"} if "engine" in self.told else set())
        taken = {name: value for name, value in kept.items() if name not in without}
        if "policy" in taken:
            taken["policy"] = Path(taken["policy"])
        return replace(self, **taken)

    @property
    def words(self) -> list[str]:
        """The options as they are written on a command line."""
        return written(self.kept)

    @property
    def only_engine(self) -> str | None:
        """The engine that alone may be asked, None where the router chooses."""
        return self.engine if self.engine != AUTO and len(self.names) == 1 else None

    @property
    def names(self) -> tuple[str, ...]:
        """The engines that are named."""
        return tuple(dict.fromkeys(name.strip() for name in self.engine.split(",")))

    def check_engines(self, workflow: WorkflowMaker) -> None:
        """Raises Exit where --engine names one that there is not."""
        if self.engine != AUTO:
            engine_names(self.names, workflow)


def written(kept: Mapping[str, Any]) -> list[str]:
    """What a job keeps, as options on a command line."""
    words = []
    for name in _OPTIONS:
        match kept.get(name):
            case None:
                pass
            case bool() as wanted:
                words.append(f"--{name}" if wanted else f"--no-{name}")
            case value:
                words.append(f"--{name} {shlex.quote(value)}")
    return words


def is_given(context: typer.Context, name: str | None) -> bool:
    """Whether the command line gives an option, as against its default."""
    source = context.get_parameter_source(name or "")
    return source is not None and source.name == "COMMANDLINE"
