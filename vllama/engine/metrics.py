"""The sleep state out of an engine's /metrics: `/is_sleeping` does not tell the level. Pure."""

import enum
import re

from vllama.domain.spec import SleepLevel

_SLEEP_STATE = re.compile(r'^vllm:engine_sleep_state\{.*\bsleep_state="(\w+)".*\}\s+(\S+)', re.MULTILINE)
_LEVELS = {"awake": None, "weights_offloaded": SleepLevel.WEIGHTS_OFFLOADED, "discard_all": SleepLevel.DISCARDED}


class NoLevel(enum.Enum):
    """Neither awake nor asleep at a level that frees memory."""

    PAUSED = "paused"  # level 0: it takes requests, runs none, and keeps all its memory
    UNTOLD = "untold"  # the metric is not there (--disable-log-stats), or its parts contradict each other


def sleep_level_of(metrics: str) -> SleepLevel | NoLevel | None:
    """None: awake."""
    gauges = _SLEEP_STATE.findall(metrics)
    states = {state for state, value in gauges if value in {"1", "1.0"}}
    if not gauges or len(states) > 1 or not states <= _LEVELS.keys():
        return NoLevel.UNTOLD
    return _LEVELS[states.pop()] if states else NoLevel.PAUSED
