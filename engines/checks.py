"""The numbers of a request, looked at before an engine asks its model: the same ones are refused by every engine."""

from __future__ import annotations

from carrara.engines.errors import EngineRefused
from carrara.engines.fields import NOT_NEGATIVE, PART, SIZE, WHOLE, Range, shortened
from carrara.engines.request import Request


def check_numbers(request: Request, engine: str) -> None:
    """Refuse limits, sampling, a priority and a draft's strength that mean nothing, or are no numbers at all.

    Raises:
        EngineRefused: names the number, its value and its range.
    """
    limits, sampling = request.limits, request.sampling
    for name, value, allowed, also in (
        ("max_tokens", limits.max_tokens, SIZE, ""),
        ("max_steps", limits.max_steps, SIZE, "None for the engine's own limit"),
        ("deadline_s", limits.deadline_s, Range(), "None for no deadline"),
        ("temperature", sampling.temperature, NOT_NEGATIVE, ""),
        ("top_p", sampling.top_p, PART, ""),
        ("seed", sampling.seed, WHOLE, "None for any"),
        ("priority", request.priority, Range(), ""),
    ):
        if value in allowed or (value is None and also):
            continue
        wanted = f"{allowed}, or {also}" if also else str(allowed)
        raise EngineRefused(f"{name} is {shortened(value)}, it must be {wanted}", engine=engine)
    draft = request.draft
    if draft is not None and draft.strength not in PART:
        raise EngineRefused(
            f"the draft's strength is {shortened(draft.strength)}, it must be {PART}", engine=engine
        )
