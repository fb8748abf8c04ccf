"""Tokens, bytes, durations and sleep levels. Like values.py: ValueError says what is accepted."""

import re
from typing import Any

from vllama.controller.manifest.problems import shown
from vllama.controller.manifest.values import whole
from vllama.domain.spec import SleepLevel
from vllama.domain.units import parse_bytes, parse_duration

_THOUSANDS = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def tokens(value: Any) -> int:
    """A number of tokens as vLLM reads it: 32768, 32k (thousands) or 32K (times 1024); `auto` and -1 are its own."""
    if value == "auto":
        return -1
    if isinstance(value, str) and (match := re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([kmgKMG])", value.strip())):
        return whole(1)(round(float(match[1]) * _THOUSANDS[match[2]]))
    if value in (-1, "-1"):
        return -1
    try:
        return whole(1)(value)
    except ValueError as error:
        raise ValueError(f"{error}; write for example 32768, 32k or 32K") from None


def amount(value: Any) -> int:
    """Bytes, from 1 up."""
    if not isinstance(value, (int, str)) or isinstance(value, bool) or len(str(value)) > 40:
        raise ValueError(f"{shown(value)} is not an amount of memory; write for example 4GiB, 512MiB or 80GB")
    count = parse_bytes(value)
    if not count:
        raise ValueError(f"{shown(value)} is no memory at all")
    return count


def amount_or_none_at_all(value: Any) -> int:
    """Bytes, from 0 up."""
    return 0 if value in (0, "0") and not isinstance(value, bool) else amount(value)


def amount_or_auto(value: Any) -> int | None:
    return None if value == "auto" else amount(value)


def duration(value: Any) -> float:
    """Seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)) or len(str(value)) > 40:
        raise ValueError(f"{shown(value)} is not a duration; write for example 30s, 10m, 1h30m")
    return parse_duration(value)


def some_time(value: Any) -> float:
    """A duration that is more than nothing."""
    if (seconds := duration(value)) > 0:
        return seconds
    raise ValueError(f"{shown(value)} is no time at all")


def duration_or_never(value: Any) -> float | None:
    """None: never."""
    if value is None or value in ("never", "none"):
        return None
    try:
        return duration(value)
    except ValueError as error:
        raise ValueError(f"{error}, or never") from None


def level(value: Any) -> SleepLevel | None:
    """None: auto."""
    if value == "auto":
        return None
    if str(value) in {"1", "2", "3"}:
        return SleepLevel(int(value))
    raise ValueError(f"{shown(value)} is not a level; write auto, 1, 2 or 3 (3 stops the engine)")
