"""Small pieces that plans and tables share."""

import re
import textwrap
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from vllama.domain.units import format_bytes, format_duration

PHASE_STYLES = {
    "Stopped": "dim",
    "Starting": "cyan",
    "Waking": "cyan",
    "Ready": "green",
    "Asleep": "blue",
    "Draining": "yellow",
    "Stopping": "yellow",
    "Unknown": "magenta",
    "Failed": "red",
    "Lost": "red",
}


_TERMINAL_CODE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def phase_style(phase: str) -> str:
    return PHASE_STYLES.get(phase, "default")


def one_line(text: str) -> str:
    """Engines' log lines end up in messages: no colour codes, no control characters, no line breaks."""
    text = _TERMINAL_CODE.sub("", text)
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def harmless(line: str) -> str:
    """A line as it is, but for what would act on a terminal: an engine's log may repeat what any client sent."""
    line = _TERMINAL_CODE.sub("", line)
    return "".join(char if char.isprintable() or char == "\t" else "\ufffd" for char in line)


def wrapped(text: str, width: int | None, *, indent: str, first: str | None = None) -> list[str]:
    """Lines of `text`, broken between words only. `width` None: one line, however long."""
    first = indent if first is None else first
    if width is None:
        return [first + one_line(text)]
    return textwrap.wrap(
        one_line(text),
        width=max(width, len(indent) + 20),
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def device_names(devices: Iterable[int], *, between: str = ",") -> str:
    return between.join(f"gpu{device}" for device in devices)


def place_names(placed: Mapping[str, Any], *, several_nodes: bool, between: str = ",") -> str:
    """Of what has `node` and `devices`, and `further` where it spans nodes: `gpu0,gpu1 of a and gpu0,gpu1 of b`."""
    further = placed.get("further") or ()
    if not (several_nodes or further) or not placed["devices"]:
        return device_names(placed["devices"], between=between)
    return " and ".join(
        f"{device_names(each['devices'], between=between)} of {one_line(each['node'])}" for each in (placed, *further)
    )


def ago(then: str | None, now: datetime) -> str:
    """`then` is ISO 8601 with a zone, or None (never). One unit is enough here: `2m ago`."""
    if then is None:
        return "-"
    seconds = (now - datetime.fromisoformat(then)).total_seconds()
    if seconds < 1:
        return "now"
    for unit in (86400, 3600, 60):
        if seconds >= unit:
            return f"{format_duration(seconds // unit * unit)} ago"
    return f"{int(seconds)}s ago"


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def amount(size: int | None, *, guessed: bool = False) -> str:
    """Bytes; `~` before what nobody measured or declared, `-` where nothing is known."""
    return "-" if size is None else f"{'~' if guessed else ''}{format_bytes(size)}"


def seconds(count: float | None) -> str:
    return "-" if count is None else format_duration(count)


def is_guess(source: str | None) -> bool:
    """`source` as the figures of the admin API name it."""
    return source in {"estimated", "assumed"}


def span(times: Mapping[str, Any]) -> str:
    """A length of time of the admin API: `3.1s`, `~35s` where it was never measured, `at least 3.1s`."""
    text = f"{'~' if times['assumed'] else ''}{format_duration(times['seconds'])}"
    if not times["unknown"]:
        return text
    return f"at least {text}" if times["seconds"] >= 0.05 else "an unknown time"
