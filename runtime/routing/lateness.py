"""Whether an engine in a race is late: each of its calls by what is known of the engine that it goes to. Pure."""

from __future__ import annotations

from collections.abc import Callable

from carrara.runtime.routing.lap import Lap

LOOK_S = 0.25
"""How often is looked whether meanwhile something is known of an engine."""

_CRUMB_S = 1e-6  # clocks and sums of seconds are not finer


def lateness(
    lap: Lap,
    late_after: Callable[[str], float | None],
    now: float,
    pause_s: float = 0.0,
    is_doubled: bool = False,
) -> str | float | None:
    """How the engine of the lap is late, else in how many seconds to look again; None: when something happens there.

    `late_after` gives the seconds after which a call to an engine is late, None while too little is known. Nobody is
    let in to the engine for `pause_s` seconds, because it asked for that: where no call is at an engine, one that ends
    too late is enough. `is_doubled`: the engine would be asked a second time. That is of use only beside a call that
    is at the engine, by the time of this try: where the engine is away or asked for a pause, the second would wait too.
    """
    looks: list[float] = []
    for call in lap.calls:
        if is_doubled and not call.is_served:
            continue
        after_s = late_after(call.engine)
        if after_s is None:
            looks.append(LOOK_S)
            continue
        left_s = (call.tried if is_doubled else call.began) + after_s - now
        if left_s <= _CRUMB_S:
            whose = "" if call.engine == lap.engine else f" of {call.engine}"
            return f"no answer{whose} after {after_s:.2f} s"
        looks.append(left_s)
    if pause_s > 0 and not is_doubled and not any(call.is_served for call in lap.calls):
        after_s = late_after(lap.engine)
        if after_s is None:
            looks.append(LOOK_S)
        elif now + pause_s > min((call.began for call in lap.calls), default=now) + after_s:
            return f"{lap.engine} asked for a pause, of {pause_s:.2f} s more"
    return min(looks, default=None)


__all__ = ["LOOK_S", "lateness"]
