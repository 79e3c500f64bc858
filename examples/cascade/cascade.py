"""A cascade of three engines: the small diffusion engine first, an AR engine next, the largest one last.

The policy is a Python object. The diffusion engine's answer is taken if it is sure; else only the doubtful fields are
asked of `ar`, which is held to a bar of its own; what both leave open goes to the third engine. Here that is `llamacpp`
(`pip install 'carrara[llamacpp]'`); write a server or a hosted model in its place, such as "vllm-server" or "openai".

    carrara plan examples/cascade/cascade.py:cascade
    carrara run examples/cascade/cascade.py:cascade --output out/cascade
    carrara explain last address
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, model_validator

from carrara import Policy, llm, step, workflow
from carrara.runtime.routing.accept import Accept
from carrara.runtime.routing.policy import Rule
from carrara.workflows.plain import plain
from carrara.workflows.scoring.score import Scoring, score, total

HERE = Path(__file__).parent

POLICY = Policy(
    name="cascade",
    rules=(Rule(("diffusion", "ar", "llamacpp"), reason="small first, large last"),),
    accept={"json": Accept(overall=0.8, field=0.6, engines={"ar": Accept(0.6, 0.4)})},
)


class Address(BaseModel):
    """The parts of an address line, as they stand there; None for what it does not give."""

    number: str | None = None
    street: str | None = None
    unit: str | None = None
    city: str | None = None
    state: str | None = None
    zip: str | None = None

    @model_validator(mode="after")
    def is_an_address(self) -> Address:
        """An answer without number and street is refused, and the next engine is asked."""
        if self.number is None and self.street is None:
            raise ValueError("an address line has a number or a street")
        return self


@llm(max_tokens=160)
def address(line: str) -> Address:
    """Extract the fields below from the text. Answer with one JSON object and nothing else; use null for a field the text does not give.
    Fields: number, street, unit, city, state, zip

    Text:
    {{ line }}"""  # noqa: E501 - the wording in one line


@step
def read_rows(path: str) -> list[dict[str, Any]]:
    """The JSON lines of a file."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


@workflow(policy=POLICY)
async def cascade(lines: str = str(HERE / "addresses.jsonl")) -> dict[str, Any]:
    """The addresses of a file, with the marks against the gold that stands in it."""
    rows = await read_rows(lines)
    found = [plain(one) for one in await address.map([row["line"] for row in rows])]
    return {"addresses": found, "score": marks([row["gold"] for row in rows], found)}


def marks(gold: list[dict[str, Any]], found: list[dict[str, Any]]) -> dict[str, Any]:
    """Field F1, and the share of addresses that are right as a whole."""
    totals = total(score(Scoring("fields"), g, f) for g, f in zip(gold, found, strict=True))
    return {
        "addresses": totals.count,
        "field_f1": round(totals.field_f1, 3),
        "exact_match": round(totals.exact_match, 3),
    }
