"""The pages of `vllama memory`: every device with who holds what of it, and the host's memory for copies."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from vllama.cli.render import bars
from vllama.cli.render.table import GAP, cut
from vllama.cli.render.words import one_line, phase_style, wrapped
from vllama.domain.units import format_bytes

WIDEST = 100
_INDENT = "  "

Line = tuple[str, str, str, str]  # who, phase, how much, and what else there is to say


def render_memory(answer: Mapping[str, Any], *, width: int | None = None) -> Text:
    """`answer` is that of /admin/memory."""
    columns = min(width or WIDEST, WIDEST)
    nodes: Sequence[Mapping[str, Any]] = answer["nodes"]
    lines: list[Text] = []
    for node in nodes:
        where = f"{node['name']}:" if len(nodes) > 1 else ""
        for page in node["devices"]:
            lines += [*_device(page, where, columns), Text("")]
        lines += [*_host(node, where, columns), Text("")]
    for entry in answer["astray"]:
        lines += [Text(line, style="yellow") for line in wrapped(_astray(entry), columns, indent=_INDENT, first="! ")]
    if not nodes:
        return Text("No device was seen yet.")
    return Text("\n").join([*lines, Text(bars.LEGEND, style="dim")])


def _device(page: Mapping[str, Any], where: str, columns: int) -> list[Text]:
    head = _head(f"{where}gpu{page['index']}", page["name"], page["total_bytes"], columns)
    turns = itertools.cycle(bars.AWAKE)
    parts = [
        (bars.ASLEEP if entry["phase"] == "Asleep" else next(turns), entry["counted_bytes"])
        for entry in page["engines"]
    ]
    if page["room_bytes"] is None:
        rest = page["total_bytes"] - page["reserve_bytes"] - sum(size for _, size in parts)
        parts.append((bars.UNKNOWN, max(0, rest)))
    else:
        parts += [(bars.OTHERS, page["foreign_bytes"]), (bars.ROOM, max(0, page["room_bytes"]))]
    parts.append((bars.RESERVE, page["reserve_bytes"]))
    return [head, bars.bar(parts, width=columns), *_lines(_rows(page), columns)]


def _rows(page: Mapping[str, Any]) -> list[Line]:
    rows = [_entry(entry) for entry in page["engines"]]
    if page["foreign_bytes"] or page["foreign"]:
        rows.append(("other programs", "", _size(page["foreign_bytes"]), _processes(page["foreign"])))
    if page["reserve_bytes"]:
        rows.append(("reserve", "", _size(page["reserve_bytes"]), ""))
    said = "" if page["room_bytes"] is not None else "the driver does not tell what is used"
    if page["room_bytes"] is not None and page["room_bytes"] < 0:
        said = "more is given away than there is"
    return [*rows, ("room", "", _size(page["room_bytes"]), said)]


def _entry(entry: Mapping[str, Any]) -> Line:
    counted, measured, awake = entry["counted_bytes"], entry["measured_bytes"], entry["awake_bytes"]
    said = []
    if entry["phase"] == "Asleep":
        said.append(f"{format_bytes(awake)} awake")
    if measured is not None and format_bytes(measured) != format_bytes(counted):
        said.append(f"holds {format_bytes(measured)} now")
    return entry["model"], _phase(entry), _size(counted), ", ".join(said)


def _phase(entry: Mapping[str, Any]) -> str:
    level = entry.get("sleep_level")
    return str(entry["phase"]) if level is None else f"{entry['phase']} (L{level})"


def _processes(foreign: Sequence[Mapping[str, Any]]) -> str:
    told = sorted(foreign, key=lambda each: (-(each["memory_bytes"] or 0), each["pid"]))
    return ", ".join(
        f"{each['name']} (pid {each['pid']})"
        + ("" if each["memory_bytes"] is None else f" {format_bytes(each['memory_bytes'])}")
        for each in told
    )  # fmt: skip


def _host(node: Mapping[str, Any], where: str, columns: int) -> list[Text]:
    host = node["host"]
    if not node["sleep_frees_memory"]:
        return [Text(f"{where}host memory", style="bold"), Text(f"{_INDENT}Sleeping frees nothing here: no copies.")]
    if not host["budget_bytes"] and not host["copies"]:
        said = "None is to be had for copies of weights (policy.host_memory): sleep at level 1 is out."
        return [Text(f"{where}host memory", style="bold"), Text(f"{_INDENT}{said}")]
    head = _head(f"{where}host memory", "for copies of weights, kept from the first sleep until the engine ends",
                 host["budget_bytes"], columns)  # fmt: skip
    parts = [(bars.ASLEEP, copy["copy_bytes"]) for copy in host["copies"]]
    rows: list[Line] = [_copy(copy) for copy in host["copies"]]
    rows.append(("room", "", _size(host["left_bytes"]), _short(host)))
    return [
        head,
        bars.bar([*parts, (bars.ROOM, max(0, host["left_bytes"]))], width=columns),
        *_lines(rows, columns),
    ]


def _copy(copy: Mapping[str, Any]) -> Line:
    held = copy["measured_bytes"]
    said = "" if held is None else f"its processes hold {format_bytes(held)} in all"
    return copy["model"], copy["phase"], _size(copy["copy_bytes"]), said


def _short(host: Mapping[str, Any]) -> str:
    """What the machine itself has is said where that is less than what is left of the budget."""
    if host["available_bytes"] is None or host["room_bytes"] >= host["left_bytes"]:
        return ""
    room, available = format_bytes(max(0, host["room_bytes"])), format_bytes(host["available_bytes"])
    return f"only {room} of it can be had: the machine has {available} available"


def _astray(entry: Mapping[str, Any]) -> str:
    return f"{entry['model']} ({entry['phase']}) is on a device that is not there: {entry['engine_id']}."


def _head(name: str, what: str, size: int, columns: int) -> Text:
    total = format_bytes(size)
    room = columns - len(name) - len(total) - 2 * len(GAP)
    what = cut(one_line(what), room) if room > 8 else ""
    padding = " " * max(1, columns - len(name) - len(GAP) - len(what) - len(total))
    return Text.assemble((name, "bold"), GAP, (what, "dim"), padding, (total, "bold"))


def _lines(rows: Sequence[Line], columns: int) -> list[Text]:
    """Columns for all rows alike; what there is to say besides is wrapped below where it does not fit beside."""
    names = min(max(len(row[0]) for row in rows), max(12, columns - 40))
    phases, sizes = max(len(row[1]) for row in rows), max(len(row[2]) for row in rows)
    lines: list[Text] = []
    for who, phase, size, more in rows:
        said = one_line(more)
        shown = Text.assemble(_INDENT, cut(one_line(who), names).ljust(names), GAP)
        if phases:
            shown.append(phase, style=phase_style(phase.split(" ")[0])).append(" " * (phases - len(phase)) + GAP)
        shown.append(size.rjust(sizes))
        if said and len(shown.plain) + len(GAP) + len(said) <= columns:
            lines.append(shown.append(GAP + said, style="dim"))
            continue
        lines.append(shown)
        lines += [Text(line, style="dim") for line in wrapped(said, columns, indent=_INDENT * 3)]
    return lines


def _size(size: int | None) -> str:
    return "unknown" if size is None else format_bytes(size)
