"""The table of `vllama ps`, and above it what somebody should look at."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.text import Text

from vllama.cli.render.table import phase_table
from vllama.cli.render.words import ago, counted, device_names, one_line, wrapped
from vllama.domain.reason import Reason
from vllama.domain.units import format_bytes

Status = Mapping[str, Any]

COLUMNS = ("MODEL", "PHASE", "NODE", "DEVICES", "MEMORY", "IN FLIGHT", "WAITING", "PORT", "PID", "LAST USED", "REASON")
DROPPED_FIRST = ("PID", "PORT", "REASON", "LAST USED", "WAITING", "IN FLIGHT", "MEMORY", "DEVICES", "NODE")
_NO_MODELS = "No models yet: declare one in models.yaml, or put one into the model cache."


def render_ps(answer: Mapping[str, Any], *, now: datetime, width: int | None = None, show_all: bool = False) -> Text:
    """`answer` is that of /admin/status. Columns that do not fit into `width` are left out, PID first."""
    lines = render_conditions(answer["conditions"], width=width)
    if lines:
        lines.append(Text(""))
    models: Sequence[Status] = answer["models"]
    shown = shown_models(models, show_all=show_all)
    if shown:
        lines += _table(shown, now=now, width=width, several_nodes=several_nodes(answer))
    return Text("\n").join([*lines, *hidden_models(len(models), len(shown))])


def shown_models(models: Iterable[Status], *, show_all: bool) -> list[Status]:
    return [model for model in models if show_all or not _only_cached(model)]


def hidden_models(count: int, shown: int) -> list[Text]:
    """What is said below the table of the models that are not in it."""
    if not count:
        return [Text(_NO_MODELS)]
    if not (hidden := count - shown):
        return []
    more = f"{counted(hidden, 'more model' if shown else 'model')} in the model cache, stopped; --all shows "
    return [*([Text("")] if shown else []), Text(more + ("it." if hidden == 1 else "them."), style="dim")]


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


def _cells(status: Status, *, now: datetime) -> dict[str, str]:
    memory = status["memory_bytes"]
    return {
        "MODEL": one_line(status["model"]),
        "PHASE": shown_phase(status),
        "NODE": node_cell(status),
        "DEVICES": devices_cell(status),
        "MEMORY": "-" if memory is None else format_bytes(memory),
        "IN FLIGHT": str(status["in_flight"]),
        "WAITING": str(status["waiting"]),
        "PORT": "-" if status["port"] is None else str(status["port"]),
        "PID": "-" if status["pid"] is None else str(status["pid"]),
        "LAST USED": "now" if status["in_flight"] else ago(status["last_used"], now),
        "REASON": status["reason"] or "-",
    }


def _table(statuses: Sequence[Status], *, now: datetime, width: int | None, several_nodes: bool) -> list[Text]:
    columns = [name for name in COLUMNS if several_nodes or name != "NODE"]
    dropped = [name for name in DROPPED_FIRST if name in columns]
    rows = [_cells(status, now=now) for status in statuses]
    return phase_table(columns, rows, [status["phase"] for status in statuses], dropped=dropped, width=width)


def several_nodes(answer: Mapping[str, Any]) -> bool:
    """Of /admin/status."""
    return len({*answer.get("nodes", ()), *(status["node"] for status in answer["models"] if status["node"])}) > 1


def node_cell(status: Status) -> str:
    """`a`, and of an engine that spans nodes `a,b`."""
    nodes = [status["node"], *(place["node"] for place in status.get("further", ()))]
    return ",".join(one_line(node) for node in nodes if node and status["devices"]) or "-"


def devices_cell(status: Status) -> str:
    """`gpu0,gpu1`, and of an engine that spans nodes `gpu0,gpu1 + gpu0,gpu1`, in the order of the nodes."""
    places = [status["devices"], *(place["devices"] for place in status.get("further", ()))]
    return " + ".join(map(device_names, places)) or _servers(status.get("servers") or ()) or "-"


def _servers(urls: Sequence[str]) -> str:
    """`gpu-server-1:8081 +2`."""
    first = one_line(urls[0]).partition("://")[2] if urls else ""
    return f"{first} +{len(urls) - 1}" if len(urls) > 1 else first
