"""What is wrong in a pipeline file: every mistake with its place, collected and raised together."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from carrara.engines.nearest import nearest
from carrara.workflows.errors import DefinitionError


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One mistake. Lines and columns count from 1; line 0 means the file as a whole."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.message}"


class PipelineError(DefinitionError):
    """A pipeline cannot be used. `mistakes` holds all of them, sorted by place; the message is one line each."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(set(mistakes)))
        super().__init__("\n".join(map(str, self.mistakes)))
        first = self.mistakes[0]
        self.file, self.line, self.column = first.file, first.line or None, first.column or None


class Mistakes:
    """A collector: checks add to it and go on, `raise_any` ends the loading."""

    def __init__(self) -> None:
        self.found: list[Mistake] = []

    def add(self, mistake: Mistake) -> None:
        self.found.append(mistake)

    def raise_any(self) -> None:
        """
        Raises:
            PipelineError: if anything was added.
        """
        if self.found:
            raise PipelineError(self.found)


def did_you_mean(word: str, known: Collection[str]) -> str:
    """ ". Did you mean 'x'?"; what is known, if nothing is close and the list is short; "" otherwise."""
    close = nearest(word, known)
    if close is not None:
        return f". Did you mean '{close}'?"
    if known and len(known) <= 12:
        return f". Known: {', '.join(sorted(known))}"
    return ""
