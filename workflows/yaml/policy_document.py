"""The shape of `policy:`, the routing policy in a pipeline file or in a file of its own."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue

from carrara.runtime.routing.accept import MOST_DRAFTS
from carrara.workflows.yaml.document_base import AtLeastOne, Count, Doc, Words

ContractKind = Literal["text", "choice", "json", "table", "outline", "regex", "infill"]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


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
    reasoning: bool | None = Field(
        None, description="Fits prompts whose wording asks to work something out, or does not."
    )
    languages: Words | None = Field(
        None, description="Fits prompts in one of these languages (ISO 639-1 codes, such as en)."
    )
    devices: Words | None = Field(
        None, description="Fits where the first engine computes on one of these: cpu, cuda, remote."
    )


class AgreementDoc(Doc):
    """Other drafts of the same engine must give the same answer."""

    drafts: Annotated[int, Field(ge=2, le=MOST_DRAFTS)] = Field(
        3, description="Answers, the first included."
    )
    share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.6, description="The share of them that must be as the first."
    )
    temperature: Positive = Field(0.7, description="At which the others are drawn.")


class JudgeDoc(Doc):
    """Another engine says whether the answer is right."""

    engine: str = Field(description="The engine that judges.")
    at_least: Share = Field(0.5, description="The confidence that its yes needs.")
    question: str | None = Field(None, description="What it is asked about task and answer.")


class AcceptDoc(Doc):
    """The confidence, from 0 to 1, that an answer needs to be taken while another engine could be asked."""

    overall: Share = Field(0.5, description="Of the answer as a whole.")
    field: Share = Field(0.3, description="Of each of its parts.")
    fields: dict[str, Share] | None = Field(
        None, description="Of single parts, by JSON pointer; * stands for any item or key."
    )
    agreement: AgreementDoc | None = Field(
        None, description="How many drafts of the engine must agree."
    )
    judge: JudgeDoc | None = Field(None, description="Who has the last word.")
    engines: dict[str, AcceptDoc] | None = Field(
        None,
        description="The same for the answers of single engines, by name; overall and field left out are as above.",
    )


_SIGN: dict[str, JsonValue] = {"x-null": True}


class HedgeDoc(Doc):
    """When the next engine starts beside the first one. null switches a sign off."""

    nullable: ClassVar = ("after_s", "times", "share", "passes")

    after_s: Positive | None = Field(
        None, description="After so many seconds.", json_schema_extra=_SIGN
    )
    times: Positive | None = Field(
        None,
        description="After so many times what the engine usually takes at the step; 3 where no other sign is named.",
        json_schema_extra=_SIGN,
    )
    share: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="After the time within which this share of the engine's answers at the step came.",
        json_schema_extra=_SIGN,
    )
    passes: AtLeastOne | None = Field(
        None,
        description="If after so many denoising passes too little is settled.",
        json_schema_extra=_SIGN,
    )
    settled: Share = Field(0.5, description="The share of the canvas that must be settled then.")


class BudgetDoc(Doc):
    """What a session may spend on engines."""

    cost: Annotated[float, Field(ge=0)] | None = Field(None, description="US dollars.")
    tokens: Count | None = Field(None, description="Tokens of prompts and answers together.")


class PriceDoc(Doc):
    """US dollars for a million tokens."""

    prompt: Annotated[float, Field(ge=0)] = Field(0.0, description="Of the prompt.")
    completion: Annotated[float, Field(ge=0)] = Field(0.0, description="Of the answer.")
    cached: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Of the prompt, from the cache; as the others if left out."
    )


class PolicyDoc(Doc):
    """The routing policy; what is left out is as in the default policy."""

    name: str | None = Field(None, description="The name of the policy, shown in reports.")
    rules: list[RuleDoc] | None = Field(
        None, description="The first rule that fits a call names its engines."
    )
    accept: dict[ContractKind, AcceptDoc] | None = Field(
        None, description="The confidence that is needed, by kind of answer."
    )
    steps: dict[str, AcceptDoc] | None = Field(
        None, description="The same for single steps, by name; goes before `accept`."
    )
    renoise: Count | None = Field(
        None, description="How often doubtful fields are re-noised before another engine is asked."
    )
    mixed: bool | None = Field(
        None, description="Whether another engine is asked for the doubtful fields alone."
    )
    again: Count | None = Field(
        None,
        description="How often the last engine is asked again, with the faults of its answer or with more room; "
        "and once more where a call broke off.",
    )
    max_attempts: AtLeastOne | None = Field(None, description="The most calls for one answer.")
    give_up_after: AtLeastOne | None = Field(
        None,
        description="After so many rejections in a row, an engine is passed over for the step.",
    )
    probe_every: AtLeastOne | None = Field(
        None, description="An engine that was passed over is tried again every so many calls."
    )
    scouts: AtLeastOne | None = Field(
        None,
        description="How many calls of a step ask an engine at once until it is known whether its answers are taken.",
    )
    max_wait_s: Annotated[float, Field(ge=0)] | None = Field(
        None, description="The longest wait, in seconds, that a busy engine may ask for."
    )
    choose: Literal["order", "time"] | None = Field(
        None, description="Whether an engine that costs more time than it saves is passed over."
    )
    break_after: AtLeastOne | None = Field(
        None, description="After so many failures in a row an engine is left alone."
    )
    break_s: Positive | None = Field(None, description="For so many seconds.")
    hedge: HedgeDoc | None = Field(
        None, description="When the next engine starts beside the first."
    )
    budget: BudgetDoc | None = Field(None, description="What a session may spend on engines.")
    prices: dict[str, PriceDoc] | None = Field(None, description="What engines cost, by name.")


class PolicyFileDoc(Doc):
    """A routing policy in a file of its own."""

    called: ClassVar[str] = "the policy file"

    policy: PolicyDoc = Field(description="How engines are chosen.")


POLICY_PARTS: dict[str, type[Doc]] = {
    "agreement": AgreementDoc,
    "judge": JudgeDoc,
    "hedge": HedgeDoc,
    "budget": BudgetDoc,
    "prices": PriceDoc,
}
"""The mappings inside a policy, by their key."""
