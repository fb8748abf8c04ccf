"""The table of `vllama ps`, and above it what somebody should look at."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.text import Text

from vllama.cli.render.words import ago, counted, device_names, one_line, phase_style, wrapped
from vllama.domain.reason import Reason
from vllama.domain.units import format_bytes

Status = Mapping[str, Any]

COLUMNS = ("MODEL", "PHASE", "DEVICES", "MEMORY", "IN FLIGHT", "WAITING", "PORT", "PID", "LAST USED", "REASON")
DROPPED_FIRST = ("PID", "PORT", "REASON", "LAST USED", "WAITING", "IN FLIGHT", "MEMORY", "DEVICES")
_GAP = "  "
_NO_MODELS = "No models yet: declare one in models.yaml, or put one into the model cache."


def render_ps(answer: Mapping[str, Any], *, now: datetime, width: int | None = None, show_all: bool = False) -> Text:
    """`answer` is that of /admin/status. Columns that do not fit into `width` are left out, PID first."""
    lines = render_conditions(answer["conditions"], width=width)
    if lines:
        lines.append(Text(""))
    models: Sequence[Status] = answer["models"]
    shown = [model for model in models if show_all or not _only_cached(model)]
    if shown:
        lines += _table(shown, now=now, width=width)
    if hidden := len(models) - len(shown):
        blank = [Text("")] if shown else []
        more = f"{counted(hidden, 'more model' if shown else 'model')} in the model cache, stopped; --all shows "
        lines += [*blank, Text(more + ("it." if hidden == 1 else "them."), style="dim")]
    elif not models:
        lines.append(Text(_NO_MODELS))
    return Text("\n").join(lines)


def render_conditions(conditions: Iterable[Mapping[str, Any]], *, width: int | None = None) -> list[Text]:
    """What is not as it should be, one line each."""
    return [
        Text(line, style="yellow")
        for condition in conditions
        if not condition["ok"]
        for said in condition["message"].splitlines() or [condition["reason"]]
        for line in wrapped(said, width, indent="  ", first="! ")
    ]


def shown_phase(status: Status) -> str:
    """With the sleep level: `Asleep (L1)`."""
    level = status["sleep_level"]
    return status["phase"] if level is None else f"{status['phase']} (L{level})"


def _only_cached(status: Status) -> bool:
    """Never declared, not running, and nothing to say about it."""
    quiet = status["reason"] in ("", Reason.NOT_WANTED) and not status["waiting"]
    return quiet and not status["declared"] and status["phase"] == "Stopped"


def _cells(status: Status, *, now: datetime, several_nodes: bool) -> dict[str, str]:
    memory, devices = status["memory_bytes"], device_names(status["devices"])
    node = f"{status['node']}:" if several_nodes and devices and status["node"] else ""
    return {
        "MODEL": one_line(status["model"]),
        "PHASE": shown_phase(status),
        "DEVICES": node + devices or "-",
        "MEMORY": "-" if memory is None else format_bytes(memory),
        "IN FLIGHT": str(status["in_flight"]),
        "WAITING": str(status["waiting"]),
        "PORT": "-" if status["port"] is None else str(status["port"]),
        "PID": "-" if status["pid"] is None else str(status["pid"]),
        "LAST USED": "now" if status["in_flight"] else ago(status["last_used"], now),
        "REASON": status["reason"] or "-",
    }


def _table(statuses: Sequence[Status], *, now: datetime, width: int | None) -> list[Text]:
    several_nodes = len({status["node"] for status in statuses if status["node"]}) > 1
    rows = [_cells(status, now=now, several_nodes=several_nodes) for status in statuses]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in COLUMNS}
    if width is not None:
        _fit(widths, width)
    lines = [Text(_line({name: name for name in widths}, widths), style="bold")]
    for status, row in zip(statuses, rows, strict=True):
        line = Text(_line(row, widths))
        start = widths["MODEL"] + len(_GAP)
        line.stylize(phase_style(status["phase"]), start, start + len(row["PHASE"]))
        lines.append(line)
    return lines


def _fit(widths: dict[str, int], width: int) -> None:
    """Drops columns until the rest fits. Name and phase always stay, the name cut if it must be."""
    for name in DROPPED_FIRST:
        if _total(widths) <= width:
            return
        del widths[name]
    widths["MODEL"] = max(8, widths["MODEL"] - max(0, _total(widths) - width))


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + len(_GAP) * (len(widths) - 1)


def _line(row: Mapping[str, str], widths: Mapping[str, int]) -> str:
    return _GAP.join(_cut(row[name], size).ljust(size) for name, size in widths.items()).rstrip()


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1] + "…"
