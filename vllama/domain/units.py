"""Bytes and durations, parsed as people write them and printed as people read them."""

import re

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

_BINARY = {"": 1, "b": 1, "k": KIB, "kib": KIB, "m": MIB, "mib": MIB, "g": GIB, "gib": GIB, "t": TIB, "tib": TIB}
_DECIMAL = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_BYTE_UNITS = _BINARY | _DECIMAL
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*")


def parse_bytes(text: str | int) -> int:
    """`4GiB`, `512M`, `1.5g`, `80GB` or a plain number of bytes. ValueError says what is accepted."""
    if isinstance(text, int) and not isinstance(text, bool):
        if text < 0:
            raise ValueError(f"{text} bytes: an amount of memory cannot be negative")
        return text
    match = _BYTES.fullmatch(str(text))
    unit = match[2].lower() if match else None
    if match is None or unit not in _BYTE_UNITS:
        raise ValueError(f"{text!r} is not an amount of memory; write for example 4GiB, 512MiB or 80GB")
    return int(float(match[1]) * _BYTE_UNITS[unit])


def format_bytes(count: int) -> str:
    """`3.5 GiB`: one decimal from MiB up, so that sums in a message can be checked by eye."""
    sign, size = ("-", -count) if count < 0 else ("", count)
    for unit, name in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit:
            return f"{sign}{size / unit:.1f} {name}"
    return f"{sign}{size} B"


def parse_duration(text: str | float) -> float:
    """`30m`, `1h30m`, `500ms` or a plain number of seconds, as seconds. ValueError says what is accepted."""
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        if text < 0:
            raise ValueError(f"{text}: a duration cannot be negative")
        return float(text)
    stripped = str(text).strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", stripped):
        return float(stripped)
    parts = list(_DURATION_PART.finditer(stripped))
    if not parts or "".join(part[0] for part in parts) != stripped:
        raise ValueError(f"{text!r} is not a duration; write for example 30s, 10m, 1h30m")
    return sum(float(part[1]) * _SECONDS[part[2]] for part in parts)


def format_duration(seconds: float) -> str:
    """The two largest units that say something: `1h30m`, `42s`, `0.3s`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    left = round(seconds)
    parts = []
    for name, unit in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if left >= unit:
            parts.append(f"{left // unit}{name}")
            left %= unit
    return "".join(parts[:2])
