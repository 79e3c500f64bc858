"""Lists of edits as values: made, undone, and put one behind the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carrara.runtime.repair.report import Certainty, Edit

_ORDER: tuple[Certainty, ...] = ("certain", "likely", "guess")


def replaced(text: str, spans: Iterable[tuple[int, int, str]]) -> str:
    """`text` with (start, end, new) made; spans in order, none overlapping."""
    parts, at = [], 0
    for start, end, new in spans:
        parts += [text[at:start], new]
        at = end
    return "".join(parts) + text[at:]


def replay(source: str, edits: Iterable[Edit]) -> str:
    """`source` with `edits` made. They are in order and do not overlap."""
    return replaced(source, ((edit.start, edit.end, edit.after) for edit in edits))


def composed(source: str, first: Sequence[Edit], second: Sequence[Edit]) -> tuple[Edit, ...]:
    """Edits of `source` that do what `first` and then, on its result, `second` do.

    Edits of both that touch become one, whose rule names both, joined by "+".
    """
    if not first or not second:
        return tuple(first or second)
    spans = _middle_spans(first, second)
    spans.sort(key=lambda span: (span[0], span[1]))
    middle = replay(source, first)
    found: list[Edit] = []
    group: list[tuple[int, int, Edit, bool]] = []
    high = -1
    shift = 0  # source offset minus middle offset, left of the group
    for span in [*spans, None]:
        if span is not None and group and span[0] <= high:
            group.append(span)
            high = max(high, span[1])
            continue
        if group:
            edit, shift = _merged(source, middle, group, high, shift)
            if edit is not None:
                found.append(edit)
        if span is not None:
            group, high = [span], span[1]
    return tuple(found)


def _middle_spans(
    first: Sequence[Edit], second: Sequence[Edit]
) -> list[tuple[int, int, Edit, bool]]:
    """Both lists as (start, end, edit, whether of the first) in offsets of the text between them."""
    spans: list[tuple[int, int, Edit, bool]] = []
    moved = 0
    for edit in first:
        start = edit.start + moved
        spans.append((start, start + len(edit.after), edit, True))
        moved += len(edit.after) - len(edit.before)
    spans += [(edit.start, edit.end, edit, False) for edit in second]
    return spans


def _merged(
    source: str,
    middle: str,
    group: list[tuple[int, int, Edit, bool]],
    high: int,
    shift: int,
) -> tuple[Edit | None, int]:
    low = group[0][0]
    grown = sum(len(e.after) - len(e.before) for _, _, e, is_first in group if is_first)
    start, end = low + shift, high + shift - grown
    later = [(a - low, b - low, e.after) for a, b, e, is_first in group if not is_first]
    after = replaced(middle[low:high], later)
    before = source[start:end]
    edits = [span[2] for span in group]
    new_shift = shift - grown
    if before == after:
        return None, new_shift
    if len(edits) == 1:
        return replace(edits[0], start=start, end=end, before=before, after=after), new_shift
    rule = "+".join(dict.fromkeys(part for e in edits for part in e.rule.split("+")))
    reason = "; ".join(dict.fromkeys(part for e in edits for part in e.reason.split("; ")))
    worst = max((e.certainty for e in edits), key=_ORDER.index)
    tier = max(e.tier for e in edits)
    return replace(edits[0], start=start, end=end, before=before, after=after, rule=rule, reason=reason,
                   certainty=worst, tier=tier), new_shift  # fmt: skip


__all__ = ["composed", "replaced", "replay"]
