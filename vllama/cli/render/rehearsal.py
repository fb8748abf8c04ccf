"""What calling a model would lead to, step by step: `vllama plan --request`."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from vllama.cli.render.words import phase_style, place_names, span, wrapped
from vllama.domain.units import format_bytes

Step = Mapping[str, Any]

_SYMBOLS = {"start": "+", "wake": "+", "sleep": "~", "stop": "-"}
_STYLES = {"start": "green", "wake": "green", "sleep": "yellow", "stop": "red"}
_WAITING = "…"
_INDENT = " " * 6
_ASSUMED = "~ before a time: never measured here, so what such a step takes elsewhere."


def render_rehearsal(answer: Mapping[str, Any], *, width: int | None = None) -> Text:
    """`answer` is that of /admin/plan/request. Where there are several nodes, each device is said with its own."""
    names = ", then ".join(asked["model"] for asked in answer["asked"])
    lines = [
        Text(line, style="bold") for line in wrapped(f"If somebody called {names} now", width, indent="  ", first="")
    ]
    lines.append(Text(""))
    several = len(answer["before"]["nodes"]) > 1
    for step in answer["steps"]:
        lines += [*_step(step, width, several=several), Text("")]
    for asked in answer["asked"]:
        lines += _asked(asked, width)
    if answer["steps"]:
        lines += [Text(""), *_memory(answer["before"], answer["after"])]
    if any(step["takes"]["assumed"] for step in answer["steps"]):
        lines += [Text(""), *(Text(line, style="dim") for line in wrapped(_ASSUMED, width, indent="  ", first=""))]
    return Text("\n").join(lines)


def _step(step: Step, width: int | None, *, several: bool) -> list[Text]:
    kind = step["kind"]
    state = Text(step["before"], style=phase_style(step["before"]))
    if step["after"] != step["before"]:
        state.append(" -> ", style="dim").append(step["after"], style=phase_style(step["after"]))
    head = Text.assemble("  ", (_SYMBOLS.get(kind, _WAITING), _STYLES.get(kind, "cyan")), f" {step['model']}  ", state)
    told = [_where(step, several=several), _after(step), f"takes {span(step['takes'])}"]
    rest = ", ".join(part for part in told if part)
    lines = [head]
    if width is None or len(head.plain) + 2 + len(rest) <= width:
        head.append("  ").append(rest)
    else:
        lines += [Text(line) for line in wrapped(rest, width, indent=_INDENT)]
    reason = f"{step['reason']}: " if step["reason"] else ""
    anyway = " It would happen anyway." if step["anyway"] else ""
    why = [Text(line) for line in wrapped(f"{reason}{step['message']}{anyway}", width, indent=_INDENT)]
    why[0].stylize("bold", len(_INDENT), len(_INDENT) + len(reason.rstrip()))
    return [*lines, *why]


def _where(step: Step, *, several: bool) -> str:
    level = f" at level {step['level']}" if step["kind"] == "sleep" else ""
    level = f" from level {step['level']}" if step["kind"] == "wake" else level
    return place_names(step, several_nodes=several, between=", ") + level


def _after(step: Step) -> str:
    begins = step["begins"]
    if begins["seconds"] < 0.05 and not begins["unknown"]:
        return "at once"
    return f"after {span(begins)}"


def _asked(asked: Mapping[str, Any], width: int | None) -> list[Text]:
    model, said = asked["model"], asked["message"]
    match asked["outcome"]:
        case "refused":
            text, style = f"{model} would be refused: {asked['reason']}: {said}", "red"
        case "waits":
            text, style = f"{model} would wait, nobody knows for how long: {asked['reason']}: {said}", "yellow"
        case _ if asked["waits"]["seconds"] < 0.05 and not asked["waits"]["unknown"]:
            text, style = f"{model} is ready: the request would be let in at once.", "green"
        case _:
            text, style = f"{model} would be ready after {span(asked['waits'])}.", "green"
    lines = [Text(line) for line in wrapped(text, width, indent="  ", first="")]
    lines[0].stylize(style, 0, len(model))
    return lines


def _memory(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Text]:
    """Room before and after, of each device and of the host's budget for copies."""
    rows: list[tuple[str, str, str, str]] = [("", "total", "room now", "room then")]
    several = len(before["nodes"]) > 1
    for then, now in zip(after["nodes"], before["nodes"], strict=True):
        where = f"{now['name']}:" if several else ""
        for page_then, page in zip(then["devices"], now["devices"], strict=True):
            rooms = _size(page["room_bytes"]), _size(page_then["room_bytes"])
            rows.append((f"{where}gpu{page['index']}", format_bytes(page["total_bytes"]), *rooms))
        if now["sleep_frees_memory"]:
            rooms = _size(now["host"]["left_bytes"]), _size(then["host"]["left_bytes"])
            rows.append((f"{where}host copies", format_bytes(now["host"]["budget_bytes"]), *rooms))
    return _aligned(rows)


def _aligned(rows: Sequence[tuple[str, str, str, str]]) -> list[Text]:
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(size) for cell, size in zip(row[1:], widths[1:], strict=True))]
        lines.append(Text("  " + "  ".join(cells), style="bold" if row is rows[0] else "default"))
    return lines


def _size(size: int | None) -> str:
    return "unknown" if size is None else format_bytes(size)
