"""The table of servers that others run: how busy each is, and what is wrong with it."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from vllama.cli.render.table import GAP, cut
from vllama.cli.render.words import one_line

WIDEST = 120
_DROPPED = ("CACHE", "MODELS", "WAITING")  # in this order, where the terminal is too narrow
_RIGHT = frozenset({"RUNNING", "WAITING", "CAPACITY", "USAGE", "CACHE"})
_MODELS, _FEWEST = 40, 12  # columns for their names
_HIGH, _FULL = 70, 90  # percent of a server's capacity


def render_servers(answer: Mapping[str, Any], *, width: int | None = None) -> Text:
    """`answer` is that of /load-stats."""
    servers: Sequence[Mapping[str, Any]] = answer["servers"]
    if not servers:
        return Text("No servers.")
    columns = min(width or WIDEST, WIDEST)
    rows = [_row(server) for server in servers]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    widths["MODELS"] = min(widths["MODELS"], _MODELS)
    for name in _DROPPED:
        if (over := _total(widths) - columns) <= 0:
            break
        if name == "MODELS" and widths[name] - over >= _FEWEST:
            widths[name] -= over
        else:
            del widths[name]
    widths["SERVER"] = max(8, widths["SERVER"] - max(0, _total(widths) - columns))
    lines = [Text(_line({name: name for name in widths}, widths), style="bold")]
    for server, row in zip(servers, rows, strict=True):
        lines.append(Text(_line(row, widths), style=_style(server)))
        if server["status"] != "healthy":
            lines.append(Text(cut(f"  {one_line(server['health_status'])}", columns), style="red"))
    return Text("\n").join(lines)


def _row(server: Mapping[str, Any]) -> dict[str, str]:
    said = server["detailed_metrics"]
    running, waiting, cache = said["num_requests_running"], said["num_requests_waiting"], said["kv_cache_usage_perc"]
    return {
        "SERVER": one_line(server["url"]),
        "MODELS": one_line(", ".join(server["supported_models"])) or "-",
        "RUNNING": str(server["in_flight"] if running is None else running),
        "WAITING": "-" if waiting is None else str(waiting),
        "CAPACITY": str(server["max_capacity"]),
        "USAGE": f"{server['utilization_percent']:.0f}%",
        "CACHE": "-" if cache is None else f"{100 * cache:.0f}%",
    }


def _style(server: Mapping[str, Any]) -> str:
    if server["status"] != "healthy":
        return "strike"
    usage = server["utilization_percent"]
    return "red" if usage >= _FULL else "yellow" if usage >= _HIGH else "green"


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + len(GAP) * (len(widths) - 1)


def _line(row: Mapping[str, str], widths: Mapping[str, int]) -> str:
    cells = (cut(row[name], size).rjust(size) if name in _RIGHT else cut(row[name], size).ljust(size)
             for name, size in widths.items())  # fmt: skip
    return GAP.join(cells).rstrip()
