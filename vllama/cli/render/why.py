"""The answer to `vllama why`: one block for each engine of a model."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

from rich.text import Text

from vllama.cli.render.table import cut
from vllama.cli.render.words import counted, phase_style, place_names, wrapped
from vllama.domain.units import format_bytes, format_duration

Answer = Mapping[str, Any]

_DUE = {
    "FairnessBound": "{model} has waited so long that busy engines may be drained for it",
    "DrainDeadline": "the drain of {model} is over, whatever is in flight",
    "DrainRest": "{model} may be drained again",
    "Retry": "{model} is tried again",
    "ProbeDeadline": "{model} is given up unless it answers",
    "LoadTimeout": "{model} is given up unless its load makes progress",
    "SleepAfter": "{model} rests, if nobody calls it",
    "StopAfter": "{model} stops, if nobody calls it",
}
_DOES = {"start": "starts", "wake": "wakes", "sleep": "goes to sleep", "stop": "stops"}


def render_why(answer: Answer, *, zone: tzinfo | None, width: int | None, several_nodes: bool = False) -> Text:
    """Prose is wrapped to `width`; None: it is not. Where there are `several_nodes`, devices are said with theirs."""
    blocks = [_engine(each, zone, width, several=several_nodes) for each in answer["engines"]]
    lines = [line for block in blocks for line in (*block, Text(""))]
    return Text("\n").join(lines[:-1])


def _engine(why: Answer, zone: tzinfo | None, width: int | None, *, several: bool) -> list[Text]:
    decision = why["decision"]
    head = Text.assemble((decision["model"], "bold"), "  ", (decision["before"], phase_style(decision["before"])))
    lines = [head, *_wrap(f"{decision['reason']}: {decision['message']}", width)]
    lines += _dim(decision["sentence"], width)
    if decision["waits_for"]:
        lines += _wrap(f"waits for: {', '.join(decision['waits_for'])}", width)
    sections = [
        *(_numbers(why["numbers"], width, several=several) if why["numbers"] else []),
        _otherwise(why["otherwise"], decision, width),
        _decisions(why["decisions"], zone, width, several=several),
    ]
    for section in sections:
        lines += [Text(""), *section] if section else []
    return lines


def _numbers(numbers: Answer, width: int | None, *, several: bool) -> list[list[Text]]:
    return [
        _devices(numbers, width, several=several), _candidates(numbers, width, several=several),
        _waiters(numbers, width), _deadlines(numbers, width),
    ]  # fmt: skip


def _devices(numbers: Answer, width: int | None, *, several: bool) -> list[Text]:
    if not numbers["devices"]:
        return []
    needed = sorted({each["needed_bytes"] for each in numbers["devices"]} - {0})
    of = " or ".join(map(format_bytes, needed))
    head = f"{numbers['for_model']} needs {of} of a device" if needed else "Devices"
    lines = [Text(head, style="bold")]
    for each in numbers["devices"]:
        lines += _wrap(f"{_device(each, several=several)}: {_sum_of(each)}", width)
    return lines


def _device(each: Answer, *, several: bool) -> str:
    return place_names({"node": each["node"], "devices": [each["device"]]}, several_nodes=several)


def _sum_of(device: Answer) -> str:
    """The whole sum, so that it can be checked by eye."""
    total = format_bytes(device["total_bytes"])
    if device["free_bytes"] is None:
        return f"{total}; how much of it is free is not known"
    parts = [f"{format_bytes(each['bytes'])} {each['model']} ({each['phase']})" for each in device["held"]]
    parts += [f"{format_bytes(device['foreign_bytes'])} other programs"] if device["foreign_bytes"] else []
    parts += [f"{format_bytes(device['reserve_bytes'])} reserve"] if device["reserve_bytes"] else []
    said = f"{total}{''.join(f' - {part}' for part in parts)} = {format_bytes(device['free_bytes'])} free"
    if device["promised_to"]:
        left, to = format_bytes(device["left_bytes"]), ", ".join(device["promised_to"])
        said += f"; {left} when {to} came first"
    return said


def _candidates(numbers: Answer, width: int | None, *, several: bool) -> list[Text]:
    rows = [_candidate(each, several=several) for each in numbers["candidates"]]
    return _table("Who could make room, in this order", ("MODEL", "WHERE", "FREES", "UNUSED", "NOW"), rows, width)


def _candidate(each: Answer, *, several: bool) -> tuple[str, ...]:
    frees = format_bytes(each["stop_frees_bytes"])
    if each["sleep_frees_bytes"]:
        frees += f", asleep {format_bytes(each['sleep_frees_bytes'])}"
    now = [each["phase"]]
    now += [f"{each['in_flight']} in flight"] if each["in_flight"] else []
    now += [f"{each['waiting']} waiting"] if each["waiting"] else []
    now += ["a spare replica"] if each["spare"] else []
    return (
        each["model"],
        place_names(each, several_nodes=several),
        frees,
        format_duration(each["unused_s"]),
        ", ".join(now),
    )


def _waiters(numbers: Answer, width: int | None) -> list[Text]:
    rows = [
        (f"{place}. {each['model']}", format_duration(each["waits_s"]), str(each["priority"]), each["why"])
        for place, each in enumerate(numbers["waiters"], 1)
    ]
    return _table("Who is to be ready, in turn", ("MODEL", "SINCE", "PRIORITY", "WHY"), rows, width)


def _deadlines(numbers: Answer, width: int | None) -> list[Text]:
    lines = [Text("What time will bring", style="bold")] if numbers["deadlines"] else []
    for each in numbers["deadlines"]:
        lines += _wrap(f"in {format_duration(each['in_s'])}: {_DUE[each['what']].format(model=each['model'])}", width)
    return lines


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[Text]:
    """The last columns go first where it is too narrow for them; then the name is cut."""
    if not rows:
        return []
    sizes = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    while width is not None and len(sizes) > 2 and sum(sizes) + 2 * len(sizes) > width:
        sizes.pop()
    if width is not None:
        sizes[0] = max(8, min(sizes[0], width - sum(sizes[1:]) - 2 * len(sizes)))
    lines = [Text(title, style="bold"), Text(_row(columns, sizes), style="dim")]
    return lines + [Text(_row(row, sizes)) for row in rows]


def _row(row: Sequence[str], sizes: Sequence[int]) -> str:
    cells = (cut(cell, size).ljust(size) for cell, size in zip(row, sizes, strict=False))
    return "  " + "  ".join(cells).rstrip()


def _otherwise(each: Iterable[Answer], decision: Answer, width: int | None) -> list[Text]:
    lines = [Text("What would change that", style="bold")]
    for one in each:
        lines += _wrap(f"if {one['if']}: {_then(one['then'], decision)}", width)
    return lines if len(lines) > 1 else [*lines, *_wrap("Nothing that was thought of here.", width)]


def _then(then: Answer, decision: Answer) -> str:
    if (action := then["action"]) is not None:
        return f"it {_DOES[action['verb']]}. {then['reason']}: {then['message']}"
    refused = "" if then["refused"] == decision["refused"] else "it is refused. " if then["refused"] else "it waits. "
    return f"{refused}{then['reason']}: {then['message']}"


def _decisions(each: Sequence[Answer], zone: tzinfo | None, width: int | None, *, several: bool) -> list[Text]:
    last = "The last decision" if len(each) == 1 else f"The last {counted(len(each), 'decision')}"
    lines = [Text(f"{last} about it", style="bold")] if each else []
    for one in each:
        when = datetime.fromisoformat(one["at"]).astimezone(zone).strftime("%m-%d %H:%M:%S")
        action = one["action"]
        does = "" if action is None else f" ({action['verb']} on {place_names(action, several_nodes=several)})"
        first = f"  {when}  {one['reason']}{does}: "
        lines += [Text(line) for line in wrapped(one["message"], width, indent=" " * 18, first=first)]
        speaks = one["action"] is not None or one["waits_for"] or one["refused"]
        if one["numbers"] and speaks and (said := _in_short(one["numbers"], several=several)):
            part = "" if one["whole"] else "in part: "
            lines += [Text(line, style="dim") for line in wrapped(part + said, width, indent=" " * 18)]
    return lines


def _in_short(numbers: Answer, *, several: bool) -> str:
    """The devices of the case: what was needed, and what there was."""
    parts = []
    for each in numbers["devices"][:4]:
        free = "unknown" if each["left_bytes"] is None else format_bytes(each["left_bytes"])
        needs = f"{format_bytes(each['needed_bytes'])} needed, " if each["needed_bytes"] else ""
        parts.append(f"{_device(each, several=several)}: {needs}{free} free")
    if parts and numbers["for_model"] != numbers["model"]:
        parts[0] = f"for {numbers['for_model']}: {parts[0]}"
    could = [f"{each['model']} {format_bytes(each['stop_frees_bytes'])}" for each in numbers["candidates"][:4]]
    return "; ".join(parts + ([f"could make room: {', '.join(could)}"] if could else []))


def _wrap(text: str, width: int | None) -> list[Text]:
    return [Text(line) for line in wrapped(text, width, indent="    ", first="  ")]


def _dim(text: str, width: int | None) -> list[Text]:
    return [Text(line, style="dim") for line in wrapped(text, width, indent="    ", first="  ")]
