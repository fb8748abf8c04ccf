"""The one clock: monotonic, and it goes on through suspend."""

import time


def now() -> float:
    """Seconds since boot. Process start times in /proc count from the same zero."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
