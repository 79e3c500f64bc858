"""What an engine says of itself for those who choose among engines: where it computes, what it costs, what it is good
at, how full it was. One value, which every engine gives and every wrapper passes on as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from carrara.engines.occupancy import Occupancy
from carrara.engines.request import Usage

REMOTE = "remote"
"""The device of an engine that runs on no device of this machine."""


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens, as published on `as_of`. Zero is free."""

    input: float = 0.0
    cached_input: float | None = None
    output: float = 0.0
    as_of: str = ""

    def of(self, usage: Usage) -> float:
        """What a call costs in US dollars."""
        cached = self.input if self.cached_input is None else self.cached_input
        fresh = max(0, usage.prompt_tokens - usage.cached_tokens)
        return (
            fresh * self.input
            + usage.cached_tokens * cached
            + usage.completion_tokens * self.output
        ) / 1e6


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """`device` is a kind of device ("cpu", "cuda", …) or REMOTE, `price` what tokens cost, None where the engine does
    not know. `accepted` is the share of its answers that a router may expect to take, by the contract's shape
    (`contract_shape`); a shape that is missing is one of which nothing is known. `seats`: how many
    requests a round takes at most, 0 where it is not open or does not say; `occupancy`: how many of them were taken
    since it was opened, nothing where it does not count. `is_closed`: it only stands for an engine that could not be
    opened, and refuses everything."""

    device: str = REMOTE
    price: Price | None = None
    accepted: Mapping[str, float] = field(default_factory=dict)
    seats: int = 0
    occupancy: Occupancy = field(default_factory=Occupancy)
    is_closed: bool = False

    def to_data(self) -> dict[str, Any]:
        """As JSON data, without what holds of this very moment: `occupancy` and `is_closed`."""
        price = None if self.price is None else asdict(self.price)
        found = {"device": self.device, "price": price, "accepted": dict(self.accepted)}
        return found | {"seats": self.seats}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> EngineFacts:
        """The inverse of `to_data`; what is missing is unknown.

        Raises:
            TypeError: the price has parts that are not known here.
        """
        price = data.get("price")
        return cls(
            data.get("device", REMOTE),
            None if price is None else Price(**price),
            data.get("accepted", {}),
            data.get("seats", 0),
        )


__all__ = ["REMOTE", "EngineFacts", "Price"]
