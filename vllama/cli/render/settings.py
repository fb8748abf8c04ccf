"""Settings of one model, and changes of them, as text."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from vllama.cli.render.table import GAP, cut
from vllama.cli.render.words import wrapped


def render_changes(
    model: str, changes: Sequence[Mapping[str, Any]], effect: str, *, path: Path, dry_run: bool, columns: int | None
) -> Text:
    if not changes:
        return Text(f"{model} has these settings already; {path} stays as it is.")
    verb = "would change" if dry_run else "changed"
    text = Text("\n".join(wrapped(f"{model} {verb} in {path}:", columns, indent="    ", first="")) + "\n")
    size = max(len(change["key"]) for change in changes)
    for change in changes:
        before, after = _shown(change["before"]), _shown(change["after"])
        text.append(f"  {change['key']:<{size}}  ")
        text.append(before, "red" if change["before"] is not None else "dim").append(" -> ")
        text.append(after, "green" if change["after"] is not None else "dim").append("\n")
    return text.append("\n".join(wrapped(effect, columns, indent="")))


def render_settings(model: str, rows: Sequence[Mapping[str, Any]], *, columns: int | None) -> Text:
    """Where each comes from stands last, and goes first where the terminal is narrow."""
    lines = [(row["key"], _auto(row["value"]), row["from"]) for row in rows]
    first = max(len(key) for key, _, _ in lines)
    second = max(len(value) for _, value, _ in lines)
    last = max(len(source) for _, _, source in lines)
    if columns is not None and first + second + last + 2 * len(GAP) > columns:
        second = max(12, columns - first - last - 2 * len(GAP))
    text = Text(f"{model}\n", style="bold")
    for key, value, source in lines:
        style = "dim" if source == "default" else "default"
        text.append(f"{key:<{first}}{GAP}{cut(value, second):<{second}}{GAP}{source}\n", style)
    text.rstrip()
    return text


def _auto(value: Any) -> str:
    return "-" if value is None or value == [] else _plain(value)


def _shown(value: Any) -> str:
    return "not set" if value is None else _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value if value.isprintable() else json.dumps(value)
    return json.dumps(value, default=str)
