"""Which field of an answer each repair touched."""

from __future__ import annotations

from carrara.engines.json_schema import pointer
from carrara.runtime.repair.json_text.spans import value_spans
from carrara.runtime.repair.report import RepairReport


def rules_by_field(report: RepairReport) -> dict[str, list[str]]:
    """The rules of a repair's edits by the JSON pointer of the innermost value that each stands in or beside.

    "" gathers those around the whole answer, and all of an answer that is no JSON.
    """
    spans = list(value_spans(report.text)) if report.kind == "json" else []
    found: dict[str, list[str]] = {}
    moved = 0
    for edit in report.edits:
        start = edit.start + moved
        end = start + len(edit.after)
        moved += len(edit.after) - len(edit.before)
        # Spans come in the order in which they end: the first that holds the edit is the innermost one.
        path = next((path for a, b, path in spans if a <= start and end <= b), ())
        rules = found.setdefault(pointer(path), [])
        if edit.rule not in rules:
            rules.append(edit.rule)
    return found


__all__ = ["rules_by_field"]
