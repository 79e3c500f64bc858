"""What is asked: address lines and sentences on restaurants to extract from, notes to classify, records to repair.

All made up here. `restaurant` has prompt and contract of examples/tasks/e2e_restaurant.yaml, one of the tasks that the
embedded model was trained for; the others are asked in words of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any, Literal

from carrara.engines.contract import Choice, Contract, Json
from carrara.engines.request import Draft, Limits, Message, Request

FIELDS = ("number", "street", "unit", "city", "state", "zip")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {name: {"type": ["string", "null"]} for name in FIELDS},
    "required": list(FIELDS),
}
LABELS = ("cooking", "building", "weather", "travel", "music", "sport")
_NULL = {"type": "null"}
_CHOSEN = {
    "eat_type": ("coffee shop", "pub", "restaurant"),
    "food": ("Chinese", "English", "Fast food", "French", "Indian", "Italian", "Japanese"),
    "price_range": ("cheap", "moderate", "high", "less than £20", "£20-25", "more than £30"),
    "customer_rating": ("low", "average", "high", "1 out of 5", "3 out of 5", "5 out of 5"),
    "area": ("city centre", "riverside"),
    "family_friendly": ("yes", "no"),
}
RESTAURANT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        **{
            name: {"anyOf": [{"type": "string", "enum": list(values)}, _NULL]}
            for name, values in _CHOSEN.items()
        },
        "near": {"anyOf": [{"type": "string"}, _NULL]},
    },
    "required": ["name", *_CHOSEN, "near"],
}
_NAMES = ("Blue Spice", "The Wrestlers", "Loch Fyne", "Green Man", "Aromi", "The Cricketers")
_PLACES = ("Raja Cuisine", "Burger King", "The Sorrento", "Crowne Plaza Hotel", "Café Rouge")
_STREETS = ("Sherman Avenue", "East Adams Street", "Darrow Road", "Elm Court", "Hill Boulevard")
_CITIES = ("Evanston", "Springfield", "Oak Park", "Joliet", "Naperville", "Aurora")
_NOTES = (
    "The wall needs another row of bricks, number {}.",
    "Stir {} eggs into the flour before the oven is hot.",
    "Rain at {} o'clock, then sun over the hills.",
    "The train to the coast leaves from platform {}.",
    "She played the sonata in {} minutes.",
    "They scored {} goals after the break.",
)


@dataclass(frozen=True, slots=True)
class Ask:
    """One call, in words that every decoder understands. `wrong` is the field of `draft` that must be written anew."""

    kind: Literal["extract", "restaurant", "choose", "repair"]
    prompt: str
    draft: str | None = None
    wrong: str | None = None

    @property
    def contract(self) -> Contract:
        return Choice(LABELS) if self.kind == "choose" else Json.of(self.schema)

    @property
    def schema(self) -> dict[str, Any]:
        """The same as a JSON schema, for decoders that know no closed choice."""
        match self.kind:
            case "choose":
                return {"enum": list(LABELS)}
            case "restaurant":
                return RESTAURANT
            case _:
                return SCHEMA

    def request(self, drafted: bool) -> Request:
        """For our engines. `drafted`: the engine refines a draft, and does not read it in the prompt."""
        draft = None
        if drafted and self.draft is not None and self.wrong is not None:
            draft = Draft(self.draft, (f"/{self.wrong}",))
        return Request((Message("user", self.prompt),), self.contract, Limits(160), draft=draft)

    @property
    def with_draft(self) -> str:
        """The prompt for a decoder that takes no drafts: it reads the draft and writes all of it again."""
        if self.draft is None:
            return self.prompt
        return f"{self.prompt}\n\nThis answer has a wrong {self.wrong}. Answer with the corrected object.\n{self.draft}"


def extractions(seed: int) -> Iterator[Ask]:
    """Address lines without end, none twice."""
    draw = Random(seed)
    for number in count(100 + seed):
        street, city = draw.choice(_STREETS), draw.choice(_CITIES)
        line = f"{number} {street}, {city}, {60000 + draw.randrange(999)}"
        yield Ask("extract", _extract_prompt(line))


def restaurants(seed: int) -> Iterator[Ask]:
    """Sentences that give between three and all eight fields, none twice."""
    draw, told = Random(seed), set[str]()
    while True:
        facts = {name: draw.choice(values) for name, values in _CHOSEN.items()}
        line = f"{draw.choice(_NAMES)} is a {facts['food']} {facts['eat_type']} near {draw.choice(_PLACES)}"
        more = [
            f"in the {facts['area']}",
            f"with a customer rating of {facts['customer_rating']}",
            f"and a price range of {facts['price_range']}",
        ]
        line = " ".join([line, *draw.sample(more, draw.randint(0, 3))]) + "."
        if facts["family_friendly"] == "yes":
            line += " It is family friendly."
        if line not in told:
            told.add(line)
            yield Ask("restaurant", _extract_prompt(line, RESTAURANT["required"]))


def choices(seed: int) -> Iterator[Ask]:
    draw = Random(seed)
    for number in count(seed):
        note = draw.choice(_NOTES).format(number)
        yield Ask(
            "choose",
            f"What is this about? Answer with one word of: {', '.join(LABELS)}.\n\nText: {note}",
        )


def repairs(seed: int) -> Iterator[Ask]:
    """Records of which one field is wrong."""
    draw = Random(seed)
    for number in count(100 + seed):
        street, city = draw.choice(_STREETS), draw.choice(_CITIES)
        code = str(60000 + draw.randrange(999))
        record = dict.fromkeys(FIELDS) | {
            "number": str(number),
            "street": street,
            "city": "?",
            "zip": code,
        }
        prompt = _extract_prompt(f"{number} {street}, {city}, {code}")
        yield Ask("repair", prompt, json.dumps(record), "city")


KINDS = {"extract": extractions, "restaurant": restaurants, "choose": choices, "repair": repairs}


def chain(seed: int, length: int) -> list[Ask]:
    """Calls of which each needs the one before: `{before}` is its answer."""
    notes, lines = choices(seed), extractions(seed)
    asks = []
    for number in range(length):
        ask = next(lines) if number % 2 == 0 else next(notes)
        asks.append(Ask(ask.kind, f"{ask.prompt}\n\nThe answer before was: {{before}}"))
    return asks


def _extract_prompt(line: str, fields: Sequence[str] = FIELDS) -> str:
    return (
        "Extract the fields below from the text. Answer with one JSON object and nothing else; use null for a "
        f"field the text does not give.\nFields: {', '.join(fields)}\n\nText:\n{line}"
    )
