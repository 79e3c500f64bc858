"""What was asked and answered for a call, move by move. A race has two such lines: each engine goes on from its own
moves and answers, and the call from those of the engine whose turn counts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from carrara.engines.request import Completion
from carrara.runtime.routing.router import Move
from carrara.runtime.routing.verdict import Verdict
from carrara.runtime.routing.witness import Stay


@dataclass(slots=True, eq=False)
class Line:
    """The moves so far and what came of them. `last` is the last rejected answer of each engine that gave one, `draft`
    the last of all with its text, mended where it was. `origins` is the engine of each field that stayed while another
    engine was asked for the doubtful ones. `doubled` is an engine that is asked the same on the line beside this one: a
    call to it from here is a second one, and joins none but second ones of other steps. `stay` is that at the engine
    that is asked now."""

    history: list[Move] = field(default_factory=list)
    last: dict[str, Verdict] = field(default_factory=dict)
    draft: tuple[Completion, str] | None = None
    origins: dict[str, str] = field(default_factory=dict)
    doubled: str = ""
    stay: Stay = field(init=False)

    def beside(self, move: Move) -> Line:
        """One that starts from here while `move` is being made, and counts it."""
        return replace(
            self,
            history=[*self.history, move],
            last=dict(self.last),
            origins=dict(self.origins),
            doubled=move.engine,
        )


class Turn(NamedTuple):
    """The moves at one engine: the verdict on the last of them, the move to another engine that follows, and the line
    that they are on."""

    verdict: Verdict
    following: Move | None
    line: Line


__all__ = ["Line", "Turn"]
