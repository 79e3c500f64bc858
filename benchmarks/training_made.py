"""Training rows made by program from labelled ones: labels and fields that no data set has under these names.

A small model that has seen one list of labels learns it by heart. Here the same texts are asked about with few labels
or many, from several lists, written in several styles, and with fields renamed, so that the prompt has to be read.
"""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from carrara.engines.contract import Choice, Json, to_data

Row = Mapping[str, Any]
Words = tuple[str, ...]

MOST_OPTIONS = 14
"""Labels of a made choice at most; the least are two."""

CHOICE_WORDINGS = (
    "Which of these fits best: {labels}?\n\n{text}",
    "Classify the text. Answer with one label only.\nLabels: {labels}\n\nText: {text}",
    "{text}\n\nWhat is this? Choose one of: {labels}.",
    "Choose the label that describes the text.\n\n{bullets}\n\nText:\n{text}",
    "{question} Answer with one of: {labels}.\n\n{text}",
    "{question}\n\n{text}",
)
"""The last one leaves the labels to the contract."""

FIELD_WORDINGS = (
    "Extract {fields} from the text as JSON. Use null for what is missing.\n\n{text}",
    "Read the text and fill in these fields: {fields}.\n\nText: {text}",
    "{text}\n\nGive a JSON object with the keys {fields}; null where the text says nothing.",
    "Text:\n{text}\n\nFields: {fields}\nAnswer with one JSON object.",
)

NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "us_address": {
        "number": ("house number", "building"),
        "street": ("street name", "road"),
        "unit": ("apartment", "suite or unit"),
        "city": ("town", "municipality"),
        "state": ("state code", "region"),
        "zip": ("postal code", "postcode"),
    },
    "e2e_restaurant": {
        "name": ("restaurant", "venue", "name of the place"),
        "eat_type": ("kind", "type of place"),
        "food": ("cuisine", "kitchen"),
        "price_range": ("price", "cost"),
        "customer_rating": ("rating", "score of guests"),
        "area": ("location", "part of town"),
        "family_friendly": ("children welcome", "suitable for families"),
        "near": ("close to", "landmark"),
    },
    "citation": {
        "authors": ("author", "written by"),
        "year": ("published", "date"),
        "title": ("work", "name of the work"),
        "container": ("journal or book", "appeared in"),
        "volume": ("vol", "volume number"),
        "pages": ("page range", "page numbers"),
        "publisher": ("publishing house", "press"),
        "location": ("place", "city of publication"),
    },
    "film_record": {
        "title": ("film", "movie"),
        "year": ("released", "release year"),
        "genres": ("kinds", "categories"),
        "cast": ("actors", "starring"),
    },
}
"""By task, what else its fields could be called."""


def made_rows(rows: Sequence[Row], most: int, seed: int) -> Iterator[dict[str, Any]]:
    """At most `most` rows with a choice and `most` with renamed fields, from rows that have a prompt and an answer.

    The same for the same rows and seed.
    """
    for make in (choice_rows, field_rows):
        made = list(make(rows, random.Random(f"{seed} {make.__name__}")))
        random.Random(seed).shuffle(made)
        yield from made[:most]


def choice_rows(rows: Iterable[Row], chance: random.Random) -> Iterator[dict[str, Any]]:
    """A choice for each text that has a label: its own among others of the same list, drawn and written anew."""
    labelled = [(row, *found) for row in rows if (found := _labelled(row)) is not None]
    lists: dict[str, set[Words]] = defaultdict(set)
    for row, _, _, labels in labelled:
        lists[row["task"]].update(map(words_of, labels))
    known = {task: sorted(labels) for task, labels in lists.items()}
    for row, question, text, labels in labelled:
        own = [words_of(label) for label in labels]
        right = chance.choice(own)
        others = [label for label in known[row["task"]] if label not in own]
        if not others:
            continue
        drawn = chance.sample(others, min(len(others), chance.randint(1, MOST_OPTIONS - 1)))
        style = chance.choice(STYLES)
        options = [style(label) for label in (right, *drawn)]
        answer = options[0]
        chance.shuffle(options)
        prompt = chance.choice(CHOICE_WORDINGS).format(
            labels=", ".join(options),
            bullets="\n".join(f"- {option}" for option in options),
            question=question,
            text=text,
        )
        yield _row(row, "made_choice", prompt, answer, to_data(Choice(tuple(options))))


def field_rows(rows: Iterable[Row], chance: random.Random) -> Iterator[dict[str, Any]]:
    """Some of the fields of each flat record, under other names, in another order and style."""
    for row in rows:
        names, record, text = NAMES.get(row["task"]), row["response"], _text_of(row)
        if names is None or text is None or not isinstance(record, dict):
            continue
        fields = [name for name in record if name in names]
        if not fields:
            continue
        kept = chance.sample(fields, chance.randint(min(2, len(fields)), len(fields)))
        style = chance.choice(FIELD_STYLES)
        renamed = {style(words_of(chance.choice(names[name]))): record[name] for name in kept}
        prompt = chance.choice(FIELD_WORDINGS).format(fields=", ".join(renamed), text=text)
        try:
            contract = to_data(Json.of(schema_of(renamed)))
        except ValueError:
            continue
        yield _row(row, "made_fields", prompt, renamed, contract)


def schema_of(value: Any) -> dict[str, Any]:
    """A schema that a value fits and that says no more than its form: texts may be null, lists may be longer."""
    match value:
        case None | str():
            return {"type": ["string", "null"]}
        case bool():
            return {"type": "boolean"}
        case int() | float():
            return {"type": "number"}
        case list():
            kinds = {json.dumps(schema_of(item)): item for item in value}
            if len(kinds) > 1:
                raise ValueError("items of several kinds")
            inner = schema_of(value[0]) if value else {"type": "string"}
            if inner == {"type": ["string", "null"]}:
                inner = {"type": "string"}
            return {"type": "array", "items": inner}
        case dict():
            parts = {str(key): schema_of(part) for key, part in value.items()}
            return {"type": "object", "properties": parts, "required": list(parts)}
    raise ValueError(f"no schema for {value!r}")


def words_of(label: str) -> Words:
    """`"cardArrival"`, `"card_arrival"` and `"card arrival"` as `("card", "arrival")`."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label)
    return tuple(re.sub(r"[\s_\-]+", " ", spaced).strip().lower().split(" "))


def _snake(words: Words) -> str:
    return "_".join(words)


def _camel(words: Words) -> str:
    return words[0] + "".join(word.capitalize() for word in words[1:])


def _kebab(words: Words) -> str:
    return "-".join(words)


def _title(words: Words) -> str:
    return " ".join(word.capitalize() for word in words)


Style = Callable[[Words], str]
STYLES: tuple[Style, ...] = (" ".join, _snake, _title, _kebab, _camel)
FIELD_STYLES: tuple[Style, ...] = (_snake, _camel, _title)


def _labelled(row: Row) -> tuple[str, str, list[str]] | None:
    """The question, the text and its right labels; None for a row that has no labels."""
    text, answer = _text_of(row), row["response"]
    if text is None:
        return None
    match row["task"]:
        case "clinc_intent" | "banking77":
            return "What does the writer want?", text, [answer]
        case "voice_command":
            return "What is the command about?", text, [answer["intent"]]
        case "film_record" if answer["genres"]:
            return "Which genre is the film?", text, list(answer["genres"])
        case "e2e_restaurant" if answer.get("eat_type"):
            return "What kind of place is it?", text, [answer["eat_type"]]
    return None


def _text_of(row: Row) -> str | None:
    """What the prompt of a row asks about: all that stands after its instruction."""
    prompt = row.get("prompt")
    if prompt is None:
        return None
    _, _, text = prompt.partition("\n\n")
    return re.sub(r"^(Text:\n|Request: |Message: |Command: )", "", text) or None


def _row(
    origin: Row, task: str, prompt: str, answer: Any, contract: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "prompt": prompt,
        "task": task,
        "src": origin["src"],
        "response": answer,
        "contract": contract,
    }
