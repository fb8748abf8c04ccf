"""The table of `vllama ps -o wide`: what each model takes, how long its changes last, and when it rests."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from vllama.cli.render.ps import (
    devices_cell,
    hidden_models,
    node_cell,
    render_conditions,
    shown_models,
    shown_phase,
)
from vllama.cli.render.table import phase_table
from vllama.cli.render.words import amount, is_guess, one_line, seconds, wrapped
from vllama.domain.units import format_duration

COLUMNS = (
    "MODEL", "PHASE", "NODE", "DEVICES", "PORT", "PID", "AWAKE", "ASLEEP", "WEIGHTS", "HOST COPY", "LOAD", "SLEEP",
    "WAKE", "RESTS",
)  # fmt: skip
DROPPED_FIRST = (
    "PID", "PORT", "RESTS", "SLEEP", "WEIGHTS", "HOST COPY", "WAKE", "LOAD", "ASLEEP", "AWAKE", "DEVICES",
    "NODE",
)  # fmt: skip
_LEGEND = "~ estimated or assumed; the rest is declared, or was measured. Awake and asleep are per device."


def render_wide(
    status: Mapping[str, Any], memory: Mapping[str, Any], *, width: int | None = None, show_all: bool = False
) -> Text:
    """`status` is the answer of /admin/status, `memory` that of /admin/memory."""
    lines = render_conditions(status["conditions"], width=width)
    if lines:
        lines.append(Text(""))
    models: Sequence[Mapping[str, Any]] = status["models"]
    shown = shown_models(models, show_all=show_all)
    if shown:
        figures = {each["model"]: each for each in memory["models"]}
        rows = [_cells(each, figures.get(each["model"], {})) for each in shown]
        phases = [each["phase"] for each in shown]
        lines += phase_table(COLUMNS, rows, phases, dropped=DROPPED_FIRST, width=width)
        if any("~" in line.plain for line in lines):
            lines += [Text(""), *(Text(line, style="dim") for line in wrapped(_LEGEND, width, indent="  ", first=""))]
    return Text("\n").join([*lines, *hidden_models(len(models), len(shown))])


def _cells(status: Mapping[str, Any], figures: Mapping[str, Any]) -> dict[str, str]:
    sources = figures.get("sources", {})

    def size(name: str) -> str:
        return amount(figures.get(name), guessed=is_guess(sources.get(name)))

    return {
        "MODEL": one_line(status["model"]),
        "PHASE": shown_phase(status),
        "NODE": node_cell(status),
        "DEVICES": devices_cell(status),
        "PORT": "-" if status["port"] is None else str(status["port"]),
        "PID": "-" if status["pid"] is None else str(status["pid"]),
        "AWAKE": size("awake_bytes"),
        "ASLEEP": size("asleep_bytes"),
        "WEIGHTS": size("weights_bytes"),
        "HOST COPY": size("host_copy_bytes"),
        "LOAD": seconds(figures.get("load_s")),
        "SLEEP": seconds(figures.get("sleep_s")),
        "WAKE": seconds(figures.get("wake_s")),
        "RESTS": _rests(status, figures),
    }


def _rests(status: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    after = figures["rests_after_s"] if figures else None
    if status["pinned"] or after is None:
        return "never" if figures else "-"
    level = {None: "auto", 3: "stop"}.get(figures["rests_at"], f"L{figures['rests_at']}")
    return f"{format_duration(after)} {level}"
