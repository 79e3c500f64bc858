"""The facts about one row: for each field its confidence, its span in the source, its engine and its repairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carrara.workflows.spans.locate import locate, locate_in_part
from carrara.workflows.spans.source_text import Span
from carrara.workflows.trust.answers import Answer
from carrara.workflows.trust.regions import in_order, kind_of, regions_of
from carrara.workflows.trust.tracing import Origin, is_leaf, nodes, trace

Facts = dict[str, Any]


def facts_of(
    key: str, row: Mapping[str, Any], answers: Sequence[Answer], source: str, text: str | None
) -> Facts:
    """A line of a trust file. `row` are the outputs, `text` the source that they were read from, in the record's
    field `source`; None where the record has no text.

    `fields` has, by JSON pointer into the row, `confidence` (None: not known), `span` ([start, end] in characters,
    None for none), `found` (exact, case, number, date or fuzzy; "nowhere" for a text or number that does not stand in
    the source; None where nothing was looked for: null, true, false, no source), `engine` (None: no model wrote it, or
    it is not known which) and `repaired` (rules). `confidence` of the row is that of the least sure step whose engine
    could tell; None where nothing is known of a step.
    """
    outputs = {name: part for name, part in row.items() if name != "key"}
    ordered = in_order(answers)
    origins = trace(outputs, [answer.value for answer in ordered], list(map(kind_of, ordered)))
    spans = {} if text is None else locate(outputs, text, _in_parts(origins, ordered, text))
    fields: dict[str, Any] = {}
    for at, leaf in nodes(outputs):
        if at == "" or not is_leaf(leaf):
            continue
        span = spans.get(at)
        where = None if span is None else [span.start, span.end]
        how = span.how if span is not None else "nowhere" if at in spans else None
        fields[at] = {**_written_by(origins.get(at), ordered), "span": where, "found": how}
    return {
        "key": key,
        "source": source if text is not None else None,
        "confidence": _rounded(_least_sure(answers)),
        "fields": fields,
        "steps": [_step(answer) for answer in answers],
    }


def _least_sure(answers: Sequence[Answer]) -> float | None:
    told = [answer.told for answer in answers if answer.told is not None]
    if len(told) < len(answers):
        return None
    return min((one.confidence for one in told if one.confidence is not None), default=None)


def _in_parts(
    origins: Mapping[str, Origin], answers: Sequence[Answer], text: str
) -> dict[str, Span]:
    """The spans of the fields whose answers are about a part of the text. All of such an answer is looked for there:
    its values stand behind each other, also those that are no field of the row."""
    located: dict[int, Mapping[str, Span | None]] = {}
    found: dict[str, Span] = {}
    regions = regions_of(answers, text)
    for field, origin in origins.items():
        region = regions[origin.answer]
        if region is None:
            continue
        if origin.answer not in located:
            located[origin.answer] = locate_in_part(answers[origin.answer].value, text, *region)
        span = located[origin.answer].get(origin.at)
        if span is not None:
            found[field] = span
    return found


def doubtful(facts: Facts, below: float) -> list[str]:
    """The pointers of the fields under a confidence; "" stands for the whole row, also where nothing at all is known
    of its confidence, or of one of its steps."""
    known = [field["confidence"] for field in facts["fields"].values()]
    found = [
        at
        for at, field in facts["fields"].items()
        if field["confidence"] is not None and field["confidence"] < below
    ]
    sure = facts["confidence"]
    unknown = any(step["engine"] is None for step in facts["steps"])
    nothing = sure is None and not any(one is not None for one in known)
    if unknown or nothing or (sure is not None and sure < below):
        found.insert(0, "")
    return found


def _written_by(origin: Origin | None, answers: Sequence[Answer]) -> dict[str, Any]:
    told = answers[origin.answer].told if origin is not None else None
    if origin is None or told is None:
        return {"confidence": None, "engine": None, "repaired": []}
    parts = [origin.at]
    while parts[-1]:
        parts.append(
            parts[-1].rpartition("/")[0]
        )  # the field, what it lies in, and so on to the whole
    sure = next((told.fields[at] for at in parts if at in told.fields), None)
    if sure is None and not origin.at:
        sure = told.confidence
    engine = next((told.engines[at] for at in parts if at in told.engines), told.engine)
    rules = [rule for at in parts if at or not origin.at for rule in told.repairs.get(at, ())]
    return {"confidence": _rounded(sure), "engine": engine, "repaired": rules}


def _step(answer: Answer) -> dict[str, Any]:
    told = answer.told
    if told is None:
        return {"step": answer.step, "engine": None, "confidence": None, "repaired": None}
    rules = list(dict.fromkeys(rule for found in told.repairs.values() for rule in found))
    sure = _rounded(told.confidence)
    return {"step": answer.step, "engine": told.engine, "confidence": sure, "repaired": rules}


def _rounded(sure: float | None) -> float | None:
    return None if sure is None else round(sure, 4)


__all__ = ["Facts", "doubtful", "facts_of"]
