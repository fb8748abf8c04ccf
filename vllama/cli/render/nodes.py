"""The table of `vllama nodes`, and below it what is the matter with those that are not ready."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.text import Text

from vllama.cli.render.table import table
from vllama.cli.render.words import ago, one_line, wrapped
from vllama.domain.units import format_bytes

Node = Mapping[str, Any]

COLUMNS = ("NODE", "STATE", "ADDRESS", "DEVICES", "MEMORY", "ENGINES", "HOST MEMORY", "READ")
DROPPED_FIRST = ("ADDRESS", "HOST MEMORY", "READ", "DEVICES", "ENGINES", "MEMORY")
STATE_STYLES = {"ready": "green", "lost": "red", "fenced": "yellow"}
_MEANS = {
    "lost": "Nothing is started or asked for there, and nothing on it takes requests, until it answers.",
    "fenced": "It is back; nothing is started there until it has said that nothing is left of what ran before.",
}
_ORDER = ("Ready", "Waking", "Starting", "Draining", "Asleep", "Stopping", "Unknown", "Failed", "Lost")


def render_nodes(answer: Mapping[str, Any], *, now: datetime, width: int | None = None) -> Text:
    """`answer` is that of /admin/nodes. Columns that do not fit into `width` are left out, ADDRESS first."""
    nodes: Sequence[Node] = answer["nodes"]
    if not nodes:
        return Text("No machine was seen yet.")
    rows = [_cells(node, now) for node in nodes]
    styles = [STATE_STYLES.get(node["state"], "default") for node in nodes]
    lines = table(COLUMNS, rows, styles, dropped=DROPPED_FIRST, width=width)
    for node in nodes:
        if node["state"] != "ready":
            lines += [Text(""), *_why(node, width)]
    return Text("\n").join(lines)


def _cells(node: Node, now: datetime) -> dict[str, str]:
    return {
        "NODE": one_line(node["name"]),
        "STATE": node["state"],
        "ADDRESS": one_line(node["address"]),
        "DEVICES": _devices(node["devices"]),
        "MEMORY": _memory(node["devices"]),
        "ENGINES": _engines(node["engines"]),
        "HOST MEMORY": _host(node["host_available_bytes"]),
        "READ": ago(node["read_at"], now),
    }


def _devices(devices: Sequence[Mapping[str, Any]]) -> str:
    """`8x NVIDIA H100`, and where they differ `2x A, B`."""
    names = Counter(one_line(device["name"]) for device in devices)
    return ", ".join(f"{count}x {name}" if count > 1 else name for name, count in names.items()) or "-"


def _memory(devices: Sequence[Mapping[str, Any]]) -> str:
    total = format_bytes(sum(device["total_bytes"] for device in devices))
    used = [device["used_bytes"] for device in devices]
    if not used:
        return "-"
    return f"{'?' if None in used else format_bytes(sum(used))} of {total}"


def _engines(engines: Sequence[Mapping[str, Any]]) -> str:
    """`3 ready, 1 asleep`."""
    phases = Counter(engine["phase"] for engine in engines)
    known = sorted(phases, key=lambda phase: _ORDER.index(phase) if phase in _ORDER else len(_ORDER))
    return ", ".join(f"{phases[phase]} {phase.lower()}" for phase in known) or "-"


def _host(available: int | None) -> str:
    return "-" if available is None else f"{format_bytes(available)} free"


def _why(node: Node, width: int | None) -> list[Text]:
    said = f" ({node['said'].rstrip('.')})" if node["said"] else ""
    means = _MEANS.get(node["state"], "")
    text = f"{node['name']} is {node['state']}{said}. {means}"
    style = STATE_STYLES.get(node["state"], "default")
    return [Text(line, style=style) for line in wrapped(text, width, indent="  ", first="! ")]
