"""The canvas of a contract whose decided tokens may still be edited, under what stands around them.

Literals and gates stay as they are: an edit changes a token that the model chose inside a slot, to one with
which the slot still holds a text of its language.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from carrara.engines.diffusion.canvas import Reading, Site, View
from carrara.engines.diffusion.commit import CommitRule
from carrara.engines.diffusion.rules import Edits
from carrara.engines.diffusion.scaffold import read
from carrara.engines.diffusion.scaffold.nodes import Hole
from carrara.engines.diffusion.scaffold_canvas import ScaffoldCanvas
from carrara.engines.pieces import Piece


@dataclass(slots=True, eq=False)
class EditingCanvas(ScaffoldCanvas):
    """A block ends once a look at it without anything open edits nothing, or after `edits.most_more` such looks."""

    edits: Edits = field(default_factory=lambda: Edits(1.0, 0))
    _shown: View | None = field(init=False, default=None)
    _standing: list[tuple[Hole, int]] = field(init=False, default_factory=list)
    _looks: int = field(init=False, default=0)
    _is_quiet: bool = field(init=False, default=False)

    def view(self) -> View | None:
        base = ScaffoldCanvas.view(self)
        if base is None or self._shown is not None:
            return self._shown
        places = [
            (placed.leaf, at, placed.start + at)
            for placed in self._layout.placed
            if isinstance(placed.leaf, Hole) and not placed.after
            for at in _editable(placed.leaf)
        ]
        self._standing = [(hole, at) for hole, at, _ in places]
        sites = [Site(offset, hole.row(at)) for hole, at, offset in places]
        self._shown = View(base.tokens, (*base.sites, *sites), base.pairs)
        return self._shown

    def settle(self, reading: Reading, rule: CommitRule, step: int) -> None:
        base = ScaffoldCanvas.view(self)
        if base is None:
            return
        was_open, own = self.undecided > 0, len(base.sites)
        ScaffoldCanvas.settle(
            self,
            replace(
                reading,
                tokens=reading.tokens[:own],
                sure=reading.sure[:own],
                chance=reading.chance[:own],
            ),
            rule,
            step,
        )
        edited = self._edit(reading, own)
        self._shown = None
        self._looks = 0 if was_open else self._looks + 1
        self._is_quiet = not was_open and not edited

    def finish(self) -> None:
        ScaffoldCanvas.finish(self)
        self._shown = None

    def pieces(self) -> Iterator[Piece]:
        return read.pieces(self.tree.root, _editable)

    def _unsettled(self, hole: Hole) -> int:
        return ScaffoldCanvas._unsettled(self, hole) + len(_editable(hole))

    def _edit(self, reading: Reading, own: int) -> bool:
        """Replace what another token is surer than the threshold for; the surest first."""
        found = sorted(
            (
                (reading.sure[own + number], number)
                for number, (hole, at) in enumerate(self._standing)
                if reading.tokens[own + number] != hole.ids[at]
            ),
            key=lambda one: -one[0],
        )
        edited = False
        for sure, number in found:
            hole, at = self._standing[number]
            if sure > self.edits.threshold:
                token, chance = reading.tokens[own + number], reading.chance[own + number]
                edited |= hole.edit(at, token, chance)
        return edited

    def _looks_again(self) -> bool:
        """Whether the settled block is looked at once more. What has nothing to edit is not."""
        if self._is_quiet or self._looks >= self.edits.most_more:
            self._is_quiet, self._looks = False, 0
            return False
        return any(
            isinstance(placed.leaf, Hole) and _editable(placed.leaf)
            for placed in self._layout.placed
        )


def _editable(hole: Hole) -> list[int]:
    """Where a hole holds a token that the model chose, until its block is over."""
    if hole.emitted:
        return []
    return [at for at, sure in enumerate(hole.sure) if sure is not None]
