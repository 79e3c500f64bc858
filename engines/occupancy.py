"""How full the batch of an engine was: counted by the engine round by round, read in its facts between two moments by
whoever asks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Over `rounds` together, each one trip to the model's thread and back: of the `seats` that there were, `taken` had
    a request in them. Of these `denoised` went through a denoising pass; the others had their prompt encoded, or waited
    for that."""

    rounds: int = 0
    seats: int = 0
    taken: int = 0
    denoised: int = 0

    def __add__(self, other: Occupancy) -> Occupancy:
        return Occupancy(
            self.rounds + other.rounds,
            self.seats + other.seats,
            self.taken + other.taken,
            self.denoised + other.denoised,
        )

    def since(self, before: Occupancy) -> Occupancy:
        """What was counted after `before` was read."""
        return Occupancy(
            self.rounds - before.rounds,
            self.seats - before.seats,
            self.taken - before.taken,
            self.denoised - before.denoised,
        )

    @property
    def share(self) -> float | None:
        """The share of the seats that were taken, in [0, 1]; None before the first round."""
        return self.taken / self.seats if self.seats else None

    @property
    def line(self) -> str:
        """ "94% of 16 seats taken over 1,203 rounds, 88% denoised"."""
        if not self.seats:
            return "no round yet"
        each = round(self.seats / self.rounds)
        share, denoised = self.taken / self.seats, self.denoised / self.seats
        return f"{share:.0%} of {each} seats taken over {self.rounds:,} rounds, {denoised:.0%} denoised"


__all__ = ["Occupancy"]
