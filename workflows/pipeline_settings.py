"""What a pipeline file says about engines: its routing policy and its limits. Python workflows say none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from carrara.runtime.limits import EngineLimits
from carrara.runtime.routing.policy import Policy
from carrara.workflows.target import YAML


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    policy: Policy | None = None
    limits: Mapping[str, EngineLimits] = field(default_factory=dict)


def settings_of(target: str) -> PipelineSettings:
    """The settings in the file that `target` names, if it is a pipeline.

    Raises:
        PipelineError: the file has mistakes.
    """
    if not target.endswith(YAML) or not Path(target).is_file():
        return PipelineSettings()
    from carrara.workflows.yaml.load import load

    found = load(target)
    return PipelineSettings(found.policy, found.limits)
