"""A routing policy is data: who is asked first for what, and how sure an answer must be to be taken.

It can be written in Python or, through `from_data`, in YAML. The decisions made with it are in `router`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from carrara.engines.errors import CarraraError

KINDS = ("text", "choice", "json", "table", "outline", "regex", "infill")


def _known(found: Iterable[str], known: Iterable[str], what: str) -> None:
    names = list(known)
    for name in found:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, 1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(names)}."
            raise CarraraError(f"routing policy: unknown {what} {name!r}.{hint}")


@dataclass(frozen=True, slots=True)
class Rule:
    """For calls that fit, `engines` in order. An empty `kinds` or `tags` fits every call, else one in common
    is enough; `prompt_tokens_over` fits prompts estimated longer than that."""

    engines: tuple[str, ...]
    kinds: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    prompt_tokens_over: int = -1
    reason: str = ""

    def fits(self, kind: str, tags: frozenset[str], prompt_tokens: int) -> bool:
        return (
            (not self.kinds or kind in self.kinds)
            and (not self.tags or bool(self.tags & tags))
            and prompt_tokens > self.prompt_tokens_over
        )


@dataclass(frozen=True, slots=True)
class Accept:
    """The confidence that an answer needs while another engine could still be asked: `overall` for the
    whole, `field` for each part that has one. Both in [0, 1]; 0 takes everything that is valid."""

    overall: float = 0.5
    field: float = 0.3

    def __post_init__(self) -> None:
        if not (0 <= self.overall <= 1 and 0 <= self.field <= 1):
            raise CarraraError(f"confidence thresholds lie in [0, 1], got {self}")


@dataclass(frozen=True, slots=True)
class Policy:
    """The first of `rules` that fits a call names its engines; `accept` is by contract kind.

    `renoise`: how often doubtful fields are re-noised on a diffusion engine before another one is asked.
    `again`: how often the last engine is asked again with the faults of its answer. `max_attempts` bounds
    all of them together. `give_up_after` rejections of an engine without one acceptance, for the same step,
    it is passed over, but for one probe every `probe_every` calls. Until it had an answer accepted or was
    given up, at most `scouts` calls of the step ask it at once, the others wait. `max_wait_s`: the longest Retry-After
    that is waited for; a longer one is left to the step's own retries.
    """

    name: str = "auto"
    rules: tuple[Rule, ...] = ()
    accept: Mapping[str, Accept] = field(default_factory=dict)
    renoise: int = 1
    again: int = 1
    max_attempts: int = 4
    give_up_after: int = 4
    probe_every: int = 20
    scouts: int = 4
    max_wait_s: float = 30.0

    def __post_init__(self) -> None:
        _known(self.accept, KINDS, "contract kind")
        for rule in self.rules:
            _known(rule.kinds, KINDS, "contract kind")
            if not rule.engines:
                raise CarraraError(f"policy {self.name!r}: a rule names no engine")
        for name in ("max_attempts", "give_up_after", "probe_every", "scouts"):
            if getattr(self, name) < 1:
                raise CarraraError(f"policy {self.name!r}: {name} is at least 1")

    def accepts(self, kind: str) -> Accept:
        return self.accept.get(kind, Accept())


AUTO = Policy(
    rules=(
        Rule(("ar",), tags=frozenset({"reasoning"}), reason="the step is tagged 'reasoning'"),
        Rule(("diffusion", "ar"), frozenset({"choice"}), reason="closed choice"),
        Rule(
            ("diffusion", "ar"),
            frozenset({"json", "table", "outline", "regex"}),
            reason="typed extraction",
        ),
        Rule(("diffusion", "ar"), frozenset({"infill"}), reason="a text with holes"),
        Rule(("diffusion", "ar"), reason="free text, accepted by its confidence"),
    ),
    accept={
        "text": Accept(0.8, 0.0),
        "choice": Accept(0.5, 0.3),
        "json": Accept(0.75, 0.3),
        "table": Accept(0.75, 0.3),
        "outline": Accept(0.75, 0.3),
        "regex": Accept(0.75, 0.3),
        "infill": Accept(0.5, 0.3),
    },
)
"""The default: what has a form goes to diffusion, reasoning to AR, and doubtful answers on to AR.

The thresholds are set above what plain AR weights reach as a denoiser on the cookbook (tables 0.43 to 0.60, text up
to 0.61, JSON below 0.5); a labelled set of one's own gives better ones.
"""


def to_data(policy: Policy) -> dict[str, Any]:
    """The policy as JSON data; `from_data` is the inverse."""
    found = asdict(policy)
    found["rules"] = [
        {
            "engines": list(rule.engines),
            "kinds": sorted(rule.kinds),
            "tags": sorted(rule.tags),
            "prompt_tokens_over": rule.prompt_tokens_over,
            "reason": rule.reason,
        }
        for rule in policy.rules
    ]
    found["accept"] = {kind: asdict(accept) for kind, accept in policy.accept.items()}
    return found


def from_data(found: Mapping[str, Any]) -> Policy:
    """Build a policy from YAML or JSON data; what is left out is as in AUTO.

    Raises:
        CarraraError: an unknown key, kind or type, named with what is known.
    """
    _known(found, [f.name for f in fields(Policy)], "key")
    known = dict(found)
    known["rules"] = tuple(_rule(r) for r in found["rules"]) if "rules" in found else AUTO.rules
    known["accept"] = {
        kind: _accept(part) for kind, part in {**AUTO.accept, **found.get("accept", {})}.items()
    }
    try:
        return Policy(**known)
    except TypeError as error:
        raise CarraraError(f"bad routing policy: {error}") from error


def _rule(found: Mapping[str, Any]) -> Rule:
    _known(found, [f.name for f in fields(Rule)], "key of a rule")
    known = dict(found)
    known["engines"] = _names(found.get("engines", ()))
    known["kinds"] = frozenset(_names(found.get("kinds", ())))
    known["tags"] = frozenset(_names(found.get("tags", ())))
    return Rule(**known)


def _accept(found: Any) -> Accept:
    if isinstance(found, Accept):
        return found
    if isinstance(found, Mapping):
        _known(found, ["overall", "field"], "threshold")
        return Accept(**found)
    if isinstance(found, int | float) and not isinstance(found, bool):
        return Accept(overall=found)
    raise CarraraError(f"a confidence threshold is a number or overall/field, got {found!r}")


def _names(found: Any) -> tuple[str, ...]:
    return (found,) if isinstance(found, str) else tuple(found)


__all__ = ["AUTO", "Accept", "Policy", "Rule", "from_data", "to_data"]
