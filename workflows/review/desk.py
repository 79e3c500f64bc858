"""A review as a state machine: keys in, decisions out. It knows of no terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from carrara.engines.contract import Choice, Json, from_data
from carrara.engines.errors import CarraraError
from carrara.workflows.decimal_texts import with_numbers
from carrara.workflows.review.decisions import Decision, Decisions
from carrara.workflows.review.rows import ReviewRow, fields_of, value_at, with_value
from carrara.workflows.review.validating import Validators


@dataclass(slots=True)
class Editing:
    """A value being typed; the cursor stands before character `at`."""

    text: str
    at: int


@dataclass(slots=True)
class Desk:
    """Row number `place` is looked at, `choice` the number of the chosen field. `row` are its outputs with the edits
    made so far. `said` is the last thing to tell, `wrong` if it is a mistake. `ended`: the reviewer has left.
    `validators` are those of the workflow, None where it is not known."""

    rows: list[ReviewRow]
    decisions: Decisions
    validators: Validators | None = None
    place: int = 0
    choice: int = 0
    row: Mapping[str, Any] = field(default_factory=dict)
    editing: Editing | None = None
    said: str = ""
    wrong: bool = False
    ended: bool = False

    def __post_init__(self) -> None:
        """Begin at the first row of which nothing is decided."""
        undecided = [n for n, row in enumerate(self.rows) if self.decisions[row.key] is None]
        self._look_at(undecided[0] if undecided else 0)
        outdated = self.decisions.outdated
        if not undecided:
            self.said = "all rows are decided; any decision can be changed"
        elif outdated:
            rows = "row has" if outdated == 1 else "rows have"
            self.said = f"{outdated} {rows} changed since the decision: decide again"

    @property
    def current(self) -> ReviewRow:
        return self.rows[self.place]

    @property
    def fields(self) -> list[str]:
        """The pointers of the row's fields."""
        return fields_of(self.row)

    @property
    def chosen(self) -> str:
        """The pointer of the chosen field, "" where there is none."""
        fields = self.fields
        return fields[min(self.choice, len(fields) - 1)] if fields else ""

    @property
    def is_edited(self) -> bool:
        return self.row != self.current.row

    def press(self, key: str) -> None:
        """A key: a character, or "up", "down", "left", "right", "enter", "escape", "backspace", "tab", "home", "end".

        Raises:
            OutputError: a decision cannot be written.
        """
        self.said, self.wrong = "", False
        if self.editing is not None:
            self._type(self.editing, key)
            return
        match key:
            case "a" | "enter":
                self._accept()
            case "r":
                self.decisions.decide(self.current.key, Decision("rejected", None))
                self._go_on("rejected")
            case "e":
                self._edit()
            case "s" | "right":
                self._step(1)
            case "b" | "left":
                self._step(-1)
            case "down" | "j" | "tab":
                self._choose(1)
            case "up" | "k":
                self._choose(-1)
            case "u":
                self.row = self.current.row
                self.said = "edits taken back"
            case "q" | "escape":
                self.ended = True
            case _:
                pass

    def _accept(self) -> None:
        fault = _fault(self.current, self.row)
        if not fault and self.validators is not None:
            fault = self.validators.fault(self.current, self.row)
        if fault:
            self.said, self.wrong = fault, True
            return
        kind = "edited" if self.is_edited else "accepted"
        self.decisions.decide(
            self.current.key, Decision("edited" if self.is_edited else "accepted", self.row)
        )
        self._go_on(kind)

    def _go_on(self, said: str) -> None:
        """To the next undecided row, from here on and then from the beginning; without one the review has ended."""
        key, count = self.current.key, len(self.rows)
        order = [(self.place + step) % count for step in range(1, count)]
        following = [n for n in order if self.decisions[self.rows[n].key] is None]
        if following:
            self._look_at(following[0])
            self.said = f"{key}: {said}"
        else:
            self.ended = True

    def _step(self, by: int) -> None:
        there = self.place + by
        if 0 <= there < len(self.rows):
            self._look_at(there)
        else:
            self.said = "this is the last row" if by > 0 else "this is the first row"

    def _choose(self, by: int) -> None:
        self.choice = (self.choice + by) % max(1, len(self.fields))

    def _look_at(self, place: int) -> None:
        """A row, as it was decided before, with the first doubtful field chosen."""
        self.place = place
        decided = self.decisions[self.current.key]
        self.row = self.current.row if decided is None or decided.row is None else decided.row
        doubtful = [n for n, at in enumerate(self.fields) if at in self.current.doubtful]
        self.choice = doubtful[0] if doubtful else 0

    def _edit(self) -> None:
        if not self.chosen:
            self.said, self.wrong = "this row has no field", True
            return
        value = value_at(self.row, self.chosen)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        self.editing = Editing(text, len(text))

    def _type(self, editing: Editing, key: str) -> None:
        text, at = editing.text, editing.at
        match key:
            case "escape":
                self.editing = None
            case "enter":
                self._take(text)
            case "backspace":
                editing.text = text[: max(0, at - 1)] + text[at:]
                editing.at = max(0, at - 1)
            case "clear":
                editing.text, editing.at = "", 0
            case "left" | "right":
                editing.at = min(len(text), max(0, at + (1 if key == "right" else -1)))
            case "home" | "end":
                editing.at = len(text) if key == "end" else 0
            case _ if len(key) == 1 and key.isprintable():
                editing.text = text[:at] + key + text[at:]
                editing.at = at + 1
            case _:
                pass

    def _take(self, text: str) -> None:
        """The typed text as the field's value: text where there was text, JSON where there was something else."""
        old = value_at(self.current.row, self.chosen)
        try:
            value = _read(text, old)
        except ValueError:
            self.said, self.wrong = f"{text!r} is no {type(old).__name__} in JSON", True
            return
        row = with_value(self.row, self.chosen, value)
        fault = _fault(self.current, row)
        if fault:
            self.said, self.wrong = fault, True
            return
        self.row, self.editing = row, None


def _read(text: str, old: Any) -> Any:
    """The word null is null in any field; a field that was null takes JSON, else text."""
    if text == "null":
        return None
    if isinstance(old, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        if old is None:
            return text
        raise


def _fault(reviewed: ReviewRow, row: Mapping[str, Any]) -> str:
    """Why the row breaks the contract of its answer, "" if it holds or there is none."""
    lesson = reviewed.lesson
    if lesson is None:
        return ""
    contract, value = from_data(lesson.contract), value_at(row, lesson.at)
    if isinstance(contract, Choice) and value not in contract.options:
        return f"{value!r} is none of {', '.join(map(str, contract.options[:8]))}"
    if isinstance(contract, Json):
        try:
            contract.check(with_numbers(value, contract.schema))
        except CarraraError as error:
            return str(error)
    return ""


__all__ = ["Desk", "Editing"]
