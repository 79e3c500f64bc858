"""What must hold for every text that is repaired, whatever it is."""

from __future__ import annotations

import re

from carrara.runtime.repair import repair, repair_text
from carrara.runtime.repair.edits import replay
from carrara.runtime.repair.masks import MASK
from carrara.runtime.repair.report import RepairReport

WORD = re.compile(r"[^\W\d_]{2,}")
OF_MASKS = frozenset({"mask", "mdm", "pad", "slot", "MASK", "im", "end", "endoftext"})
"""What masks are made of: a decoder may leave a part of one."""
DROPPING = frozenset({"text_around", "comment", "ellipsis"})
"""Rules that take away what is no part of the value; they are for JSON only."""


def broken_invariant(text: str, kind: str) -> str | None:
    """The first invariant that does not hold for this text, None if all do."""
    report = repair(text, kind)
    if replay(text, report.edits) != report.text:
        return "the edits do not replay to the text"
    if report.revert() != text:
        return "revert does not give the input back"
    if not report.edits and report.text is not text:
        return "nothing was edited, and the text is another object"
    end = 0
    for edit in report.edits:
        if edit.start < end or text[edit.start : edit.end] != edit.before:
            return f"an edit overlaps another or does not say what it replaced: {edit}"
        end = edit.end
    if repair_text(text, kind) != report.text:
        return "repair_text and repair differ"
    again = repair(report.text, kind)
    if again.text != report.text:
        return f"repaired again it changes: {again.edits[:3]}"
    return lost_words(text, report)


def lost_words(text: str, report: RepairReport) -> str | None:
    """The words of the input that are nowhere in the output, apart from masks and what is no part of a value."""
    kept = text
    for edit in reversed(report.edits):
        if DROPPING.intersection(edit.rule.split("+")):
            kept = kept[: edit.start] + " " + edit.after + " " + kept[edit.end :]
    # A mask may stand within a word, or in the middle of another mask.
    lost = _missing(MASK.sub(" ", kept), report.text) & _missing(_unmasked(kept), report.text)
    return f"words are lost: {sorted(lost)[:5]}" if lost else None


def _unmasked(text: str) -> str:
    while MASK.search(text):
        text = MASK.sub("", text)
    return text


def _missing(before: str, after: str) -> set[str]:
    """The words of `before` that are nowhere in `after`."""
    spelled = {"True", "False", "None", "TRUE", "FALSE", "NULL", "Null", "undefined", "nil"}
    squeezed = re.sub(r"\W+", "", after)
    words = set(WORD.findall(before)) - set(WORD.findall(after)) - OF_MASKS - spelled
    return {word for word in words if word not in squeezed}
