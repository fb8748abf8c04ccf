"""What `vllama info` shows."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.text import Text

from vllama.cli.render.ps import render_conditions
from vllama.cli.render.words import amount, wrapped
from vllama.domain.units import format_duration

_NAMES = {
    "openai": "OpenAI API", "anthropic": "Anthropic API", "health": "health", "admin": "admin API",
}  # fmt: skip
_COLUMNS = 15


def render_info(
    info: Mapping[str, Any], conditions: Iterable[Mapping[str, Any]], *, url: str, width: int | None = None
) -> Text:
    """`info` is the answer of /admin/info; `url` is where it was reached."""
    lines = render_conditions(conditions, width=width)
    if lines:
        lines.append(Text(""))
    lines.append(Text(f"vllama {info['version']} at {url}", style="bold"))
    for name, value in _rows(info, url):
        head = f"  {name:<{_COLUMNS}}"
        lines += [Text(line) for line in wrapped(value, width, indent=" " * len(head), first=head)]
    return Text("\n").join(lines)


def _rows(info: Mapping[str, Any], url: str) -> list[tuple[str, str]]:
    first, last = info["engine_ports"]
    rows = [
        ("process", f"pid {info['pid']}, up for {format_duration(info['uptime_s'])}, {amount(info['rss_bytes'])}"),
        ("listens on", f"{info['host']}, port {info['port']}"),
        ("runs models on", info["runs_on"]),
        ("models", str(info["models"])),
        ("unused models", _idle(info["idle"])),
        ("models.yaml", info["models_yaml"]),
        ("configuration", info["config_dir"]),
        ("logs", info["logs"]),
        ("model cache", info["model_cache"]),
        ("engine ports", f"{first} to {last}"),
    ]
    return rows + [(_NAMES.get(name, name), url + path) for name, path in info["endpoints"].items()]


def _idle(idle: Mapping[str, Any]) -> str:
    """In the words of the settings that say it."""
    parts = []
    if idle["sleep_after_s"] is None:
        parts.append("never sleep")
    elif idle["level"] == 3:
        parts.append(f"stop after {format_duration(idle['sleep_after_s'])}")
    else:
        level = "the level that fits best" if idle["level"] is None else f"level {idle['level']}"
        parts.append(f"sleep after {format_duration(idle['sleep_after_s'])} at {level}")
    if idle["stop_after_s"] is not None:
        parts.append(f"stop after {format_duration(idle['stop_after_s'])}")
    return ", ".join(parts)
