"""An inbox: every message goes through domain -> intent -> slots -> reply, all messages side by side.

The intents that a message may have depend on its domain, and the slots on its intent, so each chain is
decided while it runs; the chains of other messages never wait for it.

    carrara run examples/inbox/inbox.py:inbox --output out/inbox
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, create_model

from carrara import llm, step, workflow
from carrara.workflows.plain import plain
from carrara.workflows.scoring.score import Scoring, score, total

HERE = Path(__file__).parent
KNOWN = json.loads((HERE / "intents.json").read_text(encoding="utf-8"))
DOMAINS = tuple(KNOWN["intents"])


class Triage(BaseModel):
    """What was found out about one message, and the draft of an answer."""

    id: str
    domain: str
    intent: str
    slots: dict[str, str] | None
    reply: str


def intent_step(domain: str, intents: tuple[str, ...]) -> Any:
    """The step that picks one of a domain's intents."""

    def intent(message: str, choices: str = ", ".join(intents)) -> Literal[intents]:  # type: ignore[valid-type]
        """Classify the request. Answer with one intent from this list: {{ choices }}.

        Request: {{ message }}"""

    return llm(name=f"intent_{domain}", max_tokens=16)(intent)


def slots_step(intent: str, names: list[str]) -> Any:
    """The step that finds an intent's slots in the message; what is not said stays null."""
    fields: dict[str, Any] = {name: (str | None, None) for name in names}
    slots_type = create_model(f"{intent}Slots", **fields)

    def slots(message: str, names: str = ", ".join(names)) -> slots_type:  # type: ignore[valid-type]
        """Extract the slots of the command. Answer with one JSON object with the keys {{ names }}; copy
        values from the command, use null for what it does not say.

        Command: {{ message }}"""

    return llm(name=f"slots_{intent}", max_tokens=120)(slots)


@llm(max_tokens=16)
def domain(message: str, domains: str = ", ".join(DOMAINS)) -> Literal[DOMAINS]:  # type: ignore[valid-type]
    """Which domain does the request belong to? Answer with one of: {{ domains }}.

    Request: {{ message }}"""


@llm(max_tokens=40)
def reply(message: str, intent: str, slots: dict[str, str] | None) -> str:
    """Write a one-sentence reply to a customer who asked: {{ message }}

    It is a request of the kind {{ intent }}.{% if slots %} We understood: {{ slots }}{% endif %}"""


@step
def read_rows(path: str) -> list[dict[str, Any]]:
    """The JSON lines of a file."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


INTENT = {name: intent_step(name, tuple(found)) for name, found in KNOWN["intents"].items()}
SLOTS = {name: slots_step(name, found) for name, found in KNOWN["slots"].items()}


@workflow
async def triage(id: str, message: str) -> Triage:
    """One message, from its domain to a draft of the reply."""
    found_domain = await domain(message)
    found_intent = await INTENT[found_domain](message)
    slots = None
    if found_intent in SLOTS:
        asked = plain(await SLOTS[found_intent](message))
        slots = {name: value for name, value in asked.items() if value}
    draft = await reply(message, found_intent, slots)
    return Triage(id=id, domain=found_domain, intent=found_intent, slots=slots, reply=draft)


@workflow
async def inbox(messages: str = str(HERE / "messages.jsonl")) -> dict[str, Any]:
    """All messages of a file, with the marks against the gold that stands in it."""
    rows = await read_rows(messages)
    handles = [triage(row["id"], row["text"]) for row in rows]
    found = [await handle for handle in handles]
    return {"messages": found, "score": marks([row["gold"] for row in rows], found)}


def marks(gold: list[dict[str, Any]], found: list[Triage]) -> dict[str, Any]:
    """Accuracy of domain and intent, of both together, and the F1 of the slots."""
    pairs = list(zip(gold, found, strict=True))
    domains = [g["domain"] == f.domain for g, f in pairs]
    intents = [g["intent"] == f.intent for g, f in pairs]
    slots = total(
        score(Scoring("fields"), g["slots"], f.slots or {}) for g, f in pairs if g["slots"]
    )
    return {
        "messages": len(pairs),
        "domain_accuracy": round(sum(domains) / len(pairs), 3),
        "intent_accuracy": round(sum(intents) / len(pairs), 3),
        "chain_accuracy": round(sum(map(all, zip(domains, intents, strict=True))) / len(pairs), 3),
        "slot_f1": round(slots.field_f1, 3),
    }
