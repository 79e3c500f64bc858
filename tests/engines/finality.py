"""What a draft promises of the answer."""

from __future__ import annotations

from carrara.engines.request import Progress


def hold(draft: Progress, text: str) -> None:
    """Assert that what a draft calls final is in the answer, in order; all of it where it says that all is settled."""
    if draft.settled >= 1:
        assert draft.text == text
    at = 0
    for span in draft.spans:
        found = text.find(draft.text[span.start : span.stop], at)
        assert found >= 0, (draft, text)
        at = found + span.stop - span.start
