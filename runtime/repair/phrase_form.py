"""Short answers, an option or a matching phrase: strip what is around them, change nothing in them."""

from __future__ import annotations

from collections.abc import Iterator

from carrara.engines.contract import Choice, Infill, Regex
from carrara.engines.errors import ContractError
from carrara.runtime.repair.report import Problem, RepairReport, cut, replay, rewrite

_QUOTES = "\"'`*_\u201c\u201d\u2018\u2019\u00ab\u00bb\u201e"  # typographic ones too
_STOPS = ".,;:!"
_SPACE = " \t\r\n"


def repair_choice(text: str, contract: Choice) -> RepairReport:
    """The option that the text names apart from quotes, punctuation and case around or in it.

    Refused when no option, or more than one, is left.
    """
    try:
        return RepairReport(text, "choice", True, contract.parse(text))
    except ContractError as error:
        reason = str(error)
    for start, end in _cores(text):
        answer = text[start:end].casefold()
        found = [option for option in contract.options if option.casefold() == answer]
        if len(found) == 1:
            edits = list(cut(text, start, end, "text_around", "quotes or punctuation around it"))
            if text[start:end] != found[0]:
                why = f"{found[0]!r} in the contract's spelling"
                edit = rewrite(start, text[start:end], found[0], "option_case", why, "certain")
                edits.insert(sum(e.end <= start for e in edits), edit)
            return RepairReport(replay(text, edits), "choice", True, found[0], tuple(edits))
        if found:
            reason += f"; without case it is each of {', '.join(found)}"
    return RepairReport(text, "choice", False, problems=(Problem(reason),))


def repair_regex(text: str, contract: Regex) -> RepairReport:
    """The text without quotes or punctuation around it, when that matches."""
    try:
        return RepairReport(text, "regex", True, contract.parse(text))
    except ContractError as error:
        reason = str(error)
    for start, end in _cores(text):
        try:
            value = contract.parse(text[start:end])
        except ContractError:
            continue
        edits = cut(text, start, end, "text_around", "quotes or punctuation around it")
        return RepairReport(replay(text, edits), "regex", True, value, edits)
    return RepairReport(text, "regex", False, problems=(Problem(reason),))


def repair_infill(text: str, contract: Infill) -> RepairReport:
    """A text with holes is sound or it is not: where pinned text is missing nobody knows what belongs there."""
    try:
        return RepairReport(text, "infill", True, contract.parse(text))
    except ContractError as error:
        return RepairReport(text, "infill", False, problems=(Problem(str(error), error.path),))


def _cores(text: str) -> Iterator[tuple[int, int]]:
    """Spans with more and more taken off: white space, then stops at the end, then quotes and emphasis."""
    start, end = _trim(text, 0, len(text), _SPACE, _SPACE)
    yield start, end
    for before, after in (("", _STOPS), (_QUOTES, _QUOTES), (_QUOTES, _QUOTES + _STOPS)):
        found = _trim(text, start, end, _SPACE + before, _SPACE + after)
        if found != (start, end) and found[0] < found[1]:
            start, end = found
            yield found


def _trim(text: str, start: int, end: int, before: str, after: str) -> tuple[int, int]:
    while start < end and text[start] in before:
        start += 1
    while start < end and text[end - 1] in after:
        end -= 1
    return start, end


__all__ = ["repair_choice", "repair_infill", "repair_regex"]
