"""`keep_alive` (Ollama's) and `ttl` (LM Studio's) of a body: how long its model is to stay awake after it."""

from typing import Any

import msgspec

from vllama.domain.demand import KeepAlive
from vllama.domain.units import parse_duration
from vllama.gateway.names import Said

NEVER = KeepAlive(idle_s=None)
_LONGEST_S = 100 * 365 * 86400.0  # who says more means never
_LONGEST_TEXT = 40


class NoDuration(ValueError):
    """The text says what is no duration, and what is one."""


def keep_alive_of(said: Said) -> KeepAlive | None:
    """`keep_alive` counts where both are said; null says nothing. Raises NoDuration."""
    for key, value in (("keep_alive", said.keep_alive), ("ttl", said.ttl)):
        if value is not msgspec.UNSET and value is not None:
            return _read(key, value)
    return None


def _read(key: str, value: Any) -> KeepAlive:
    """Seconds, or text like 5m or 1h30m; 0: at once after this request; negative: never by time. Raises NoDuration."""
    try:
        seconds = _seconds(value)
    except ValueError:
        message = f'{key} is not a duration; write for example "5m", 300, 0 (at once) or -1 (never)'
        raise NoDuration(message) from None
    return NEVER if seconds < 0 or seconds > _LONGEST_S else KeepAlive(idle_s=seconds)


def _seconds(value: Any) -> float:
    if isinstance(value, str) and len(value) <= _LONGEST_TEXT:
        text = value.strip()
        return -parse_duration(text[1:]) if text.startswith("-") else parse_duration(text)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(max(min(value, _LONGEST_S + 1), -1))
    raise ValueError
