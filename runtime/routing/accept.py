"""What an answer must be to be taken while another engine could still be asked. Data; `verdict` applies it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from carrara.engines.errors import CarraraError
from carrara.runtime.routing.bounds import check_number, check_text
from carrara.runtime.routing.naming import known_keys

_PARTS = ("overall", "field", "fields", "agreement", "judge", "engines")

MOST_DRAFTS = 100
"""Each draft of an agreement is a call of its own, and all are made at once."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Self-consistency: of `drafts` answers of the same engine, the share `share` must equal the first. The others
    are drawn at `temperature`, side by side."""

    drafts: int = 3
    share: float = 0.6
    temperature: float = 0.7

    def __post_init__(self) -> None:
        check_number("'drafts' of an agreement", self.drafts, least=2, most=MOST_DRAFTS, whole=True)
        check_number("'share' of an agreement", self.share, above=0, most=1)
        check_number("'temperature' of an agreement", self.temperature, above=0)


@dataclass(frozen=True, slots=True)
class Judge:
    """Another engine is shown task and answer and says yes or no; `at_least` is the confidence in a yes that is
    needed, where it can tell."""

    engine: str
    at_least: float = 0.5
    question: str = "Is this answer right and complete?"

    def __post_init__(self) -> None:
        if not isinstance(self.engine, str) or not self.engine:
            raise CarraraError(f"a judge is the name of an engine, not {self.engine!r}")
        check_number(f"'at_least' of the judge {self.engine!r}", self.at_least, least=0, most=1)
        check_text(f"'question' of the judge {self.engine!r}", self.question, empty=True)


@dataclass(frozen=True, slots=True)
class Accept:
    """The confidence that an answer needs: `overall` for the whole, `field` for each part that has one, `fields`
    for parts by JSON pointer, in which `*` stands for any item or key. All in [0, 1]; 0 takes everything that is
    valid. `agreement` and `judge` are asked only of an answer that is sure enough. `engines` holds what goes for the
    answers of single engines instead, for confidences of different engines are no common measure: a server's are
    among all tokens, a local engine's among those that the contract allows."""

    overall: float = 0.5
    field: float = 0.3
    fields: Mapping[str, float] = dataclasses.field(default_factory=dict)
    agreement: Agreement | None = None
    judge: Judge | None = None
    engines: Mapping[str, Accept] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("overall", "field"):
            check_number(f"the threshold {name!r}", getattr(self, name), least=0, most=1)
        for part, what in (
            ("fields", "JSON pointers to numbers"),
            ("engines", "names to Accept(…)"),
        ):
            if not isinstance(found := getattr(self, part), Mapping):
                raise CarraraError(f"{part!r} of thresholds is a mapping of {what}, not {found!r}")
            for name in found:
                check_text(f"each name in {part!r} of thresholds", name, empty=part == "fields")
        for pointer, share in self.fields.items():
            if told := wrong_pointer(pointer):
                raise CarraraError(told)
            check_number(f"the threshold of field {pointer!r}", share, least=0, most=1)
        for part, kind in (("agreement", Agreement), ("judge", Judge)):
            if not isinstance(found := getattr(self, part), kind | None):
                raise CarraraError(
                    f"{part!r} of thresholds takes {kind.__name__}(…), not {found!r}"
                )
        for engine, inner in self.engines.items():
            if not isinstance(inner, Accept):
                raise CarraraError(
                    f"engine {engine!r} takes Accept(…) as thresholds, not {inner!r}"
                )
            if inner.engines:
                raise CarraraError("the thresholds of a single engine name no further engines")

    def of(self, engine: str) -> Accept:
        """What an answer of this engine needs."""
        return self.engines.get(engine, self)

    def needed(self, pointer: str) -> float:
        """The confidence that the part at a pointer needs."""
        if not self.fields:
            return self.field
        if (exact := self.fields.get(pointer)) is not None:
            return exact
        parts = pointer.split("/")
        for pattern, share in self.fields.items():
            wanted = pattern.split("/")
            if len(wanted) == len(parts) and all(
                want in ("*", part) for want, part in zip(wanted, parts, strict=True)
            ):
                return share
        return self.field


def wrong_pointer(pointer: str) -> str:
    """What to tell of the name of a field that is no JSON pointer, "" for one that is."""
    if not pointer or pointer.startswith("/"):
        return ""
    return f"a field is named by its JSON pointer: {'/' + pointer!r}, not {pointer!r}"


def accept_data(accept: Accept) -> dict[str, Any]:
    """As JSON data; `accept_from` is the inverse. Of thresholds for single engines alone only these are in it."""
    found = asdict(accept)
    found["engines"] = {name: accept_data(inner) for name, inner in accept.engines.items()}
    if accept.engines and accept == Accept(engines=accept.engines):
        return {"engines": found["engines"]}
    return {
        key: dict(part) if key == "fields" else part for key, part in found.items() if part != {}
    }


def accept_from(found: Any) -> Accept:
    """From data: a number, the parts, or an Accept already. `overall` and `field` that the
    thresholds of a single engine leave out are those around them.

    Raises:
        CarraraError: an unknown part, or a value out of range.
    """
    if isinstance(found, Accept):
        return found
    if isinstance(found, int | float) and not isinstance(found, bool):
        return Accept(overall=found)
    if not isinstance(found, Mapping):
        raise CarraraError(f"a confidence threshold is a number or overall/field, got {found!r}")
    known_keys(found, _PARTS, "threshold")
    parts = {key: part for key, part in found.items() if part is not None}
    own = parts.pop("engines", {})
    if isinstance(agreement := parts.get("agreement"), Mapping):
        known_keys(agreement, ["drafts", "share", "temperature"], "key of agreement")
        parts["agreement"] = Agreement(**agreement)
    if isinstance(judge := parts.get("judge"), str):
        parts["judge"] = Judge(judge)
    elif isinstance(judge, Mapping):
        known_keys(judge, ["engine", "at_least", "question"], "key of judge")
        if "engine" not in judge:
            raise CarraraError("routing policy: a judge names its engine")
        parts["judge"] = Judge(**judge)
    usual = {name: parts[name] for name in ("overall", "field") if name in parts}
    engines = {name: accept_from({**usual, **_parts_of(inner)}) for name, inner in own.items()}
    return Accept(**parts, engines=engines)


def _parts_of(found: Any) -> Mapping[str, Any]:
    if isinstance(found, Accept):
        return {part.name: getattr(found, part.name) for part in dataclasses.fields(found)}
    if isinstance(found, int | float) and not isinstance(found, bool):
        return {"overall": found}
    if not isinstance(found, Mapping):
        raise CarraraError(f"a confidence threshold is a number or overall/field, got {found!r}")
    return found


__all__ = [
    "MOST_DRAFTS",
    "Accept",
    "Agreement",
    "Judge",
    "accept_data",
    "accept_from",
    "wrong_pointer",
]
