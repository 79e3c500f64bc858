"""The shape of `policy:`, the routing policy in a pipeline file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from carrara.workflows.yaml.document_base import AtLeastOne, Count, Doc, Words

ContractKind = Literal["text", "choice", "json", "table", "outline", "regex", "infill"]
Share = Annotated[float, Field(ge=0, le=1)]


class RuleDoc(Doc):
    """For calls that fit, these engines in order. Without kinds, tags and length it fits every call."""

    engines: Words = Field(description="The engines to ask, the first one first.")
    kinds: list[ContractKind] | None = Field(
        None, description="Fits answers of one of these kinds."
    )
    tags: Words | None = Field(None, description="Fits steps with one of these tags.")
    prompt_tokens_over: Count | None = Field(
        None, description="Fits prompts estimated longer than this."
    )
    reason: str | None = Field(None, description="Shown with every decision made by this rule.")


class AcceptDoc(Doc):
    """The confidence, from 0 to 1, that an answer needs to be taken while another engine could be asked."""

    overall: Share = Field(0.5, description="Of the answer as a whole.")
    field: Share = Field(0.3, description="Of each of its parts.")


class PolicyDoc(Doc):
    """The routing policy; what is left out is as in the default policy."""

    name: str | None = Field(None, description="The name of the policy, shown in reports.")
    rules: list[RuleDoc] | None = Field(
        None, description="The first rule that fits a call names its engines."
    )
    accept: dict[ContractKind, AcceptDoc] | None = Field(
        None, description="The confidence that is needed, by kind of answer."
    )
    renoise: Count | None = Field(
        None, description="How often doubtful fields are re-noised before another engine is asked."
    )
    again: Count | None = Field(
        None, description="How often the last engine is asked again, with the faults of its answer."
    )
    max_attempts: AtLeastOne | None = Field(None, description="The most calls for one answer.")
    give_up_after: AtLeastOne | None = Field(
        None,
        description="After so many rejections in a row, an engine is passed over for the step.",
    )
    probe_every: AtLeastOne | None = Field(
        None, description="An engine that was passed over is tried again every so many calls."
    )
    max_wait_s: Annotated[float, Field(ge=0)] | None = Field(
        None, description="The longest wait, in seconds, that a busy engine may ask for."
    )
