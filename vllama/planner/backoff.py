"""How long a model rests after a failure, in seconds."""

from vllama.domain.observed import Crashes
from vllama.domain.units import format_duration

FIRST_S = 10.0
LONGEST_S = 300.0
FORGIVEN_AFTER_UP_S = 600.0


def after_crash(previous: Crashes | None, *, now: float, up_s: float, cause: str) -> Crashes:
    """One more failure in a row; the row starts anew when the engine had been up for ten minutes."""
    count = 0 if previous is None or up_s >= FORGIVEN_AFTER_UP_S else previous.count
    return Crashes(count=count + 1, last_at=now, cause=cause)


def delay_s(count: int) -> float:
    """10 s, doubling to 5 min."""
    return min(FIRST_S * 2.0 ** min(count - 1, 10), LONGEST_S)


def retry_at(crashes: Crashes) -> float:
    """When it may be tried again, in seconds of the same clock as `last_at`."""
    return crashes.last_at + delay_s(crashes.count)


def pause_of(crashes: Crashes | None, now: float) -> str | None:
    """Why it is not tried now, in words; None: it may be."""
    if crashes is None or now >= retry_at(crashes):
        return None
    rest = format_duration(retry_at(crashes) - now)
    return f"Failed {crashes.count}x in a row; next try in {rest}. Last: {crashes.cause}"
