"""The page of `vllama describe`, laid out as `kubectl describe` does."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.text import Text

from vllama.cli.render.card import setting_value
from vllama.cli.render.ps import shown_phase
from vllama.cli.render.words import ago, amount, is_guess, phase_style, place_names, seconds, wrapped
from vllama.domain.units import format_bytes, format_duration

Page = Mapping[str, Any]

_INDENT = 14
_SIZES = ("awake_bytes", "asleep_bytes", "weights_bytes", "cache_bytes", "host_copy_bytes")
_TIMES = ("load_s", "sleep_s", "wake_s")


def render_description(page: Page, *, now: datetime, width: int | None) -> Text:
    """Prose is wrapped to `width`; None: it is not."""
    meta, status = page["metadata"], page["status"]
    lines = _field("Name", meta["name"], width)
    lines += _field("Aliases", ", ".join(meta["aliases"]) or "<none>", width)
    lines += _field("Declared in", "models.yaml" if meta["declared"] else "<none>, it is in the model cache", width)
    lines += _field("Demand", _demand(status["demand"]), width)
    if (failed := status["failures"]) is not None:
        said = f"{failed['count']}x in a row, last {ago(failed['last_at'], now)}: {failed['cause']}"
        lines += _field("Failures", said, width)
    lines += _field("Log", status["log"], None)
    for engine in status["engines"]:
        lines += _engine(engine, now, width)
    lines += [_title("Footprint"), *_footprint(status["footprint"], width)]
    lines += [_title("Spec"), *_spec(page["spec"], width)]
    lines += [_title("Events"), *_events(page["events"], now, width)]
    return Text("\n").join(lines)


def _title(text: str) -> Text:
    return Text(f"{text}:", style="bold")


def _field(name: str, said: str, width: int | None, *, before: str = "") -> list[Text]:
    first = f"{before}{name}:".ljust(_INDENT)
    lines = [Text(line) for line in wrapped(said, width, indent=" " * _INDENT, first=first)]
    lines[0].stylize("bold", 0, len(first))
    return lines


def _demand(demand: Page) -> str:
    waits = "" if demand["waits_s"] is None else f", the oldest since {format_duration(demand['waits_s'])}"
    said = [f"{demand['waiting']} waiting{waits}", f"{demand['in_flight']} in flight"]
    said += ["pinned"] if demand["pinned"] else []
    said += [f"an operator said {demand['wish']}"] if demand["wish"] else []
    return ", ".join(said)


def _engine(engine: Page, now: datetime, width: int | None) -> list[Text]:
    phase = shown_phase(engine)
    since = "" if engine["since"] is None else f" since {ago(engine['since'], now).removesuffix(' ago')}"
    head = _title("Engine" if engine["replica_of"] is None else f"Engine {engine['model']}")
    lines = [head, *_field("Phase", f"{phase}{since}", width, before="  ")]
    lines[1].stylize(phase_style(engine["phase"]), _INDENT, _INDENT + len(phase))
    lines += _field("Reason", f"{engine['reason']}: {engine['message']}", width, before="  ")
    if engine["devices"]:
        pid = "" if engine["pid"] is None else f", pid {engine['pid']}, port {engine['port']}"
        holds = "" if engine["memory_bytes"] is None else f", {format_bytes(engine['memory_bytes'])} of each"
        where = f"{place_names(engine, several_nodes=True)}{holds}{pid}"
        lines += _field("Where", where, width, before="  ")
    rows = [
        (each["type"], each["status"], "-" if (at := each["lastTransitionTime"]) is None else ago(at, now),
         f"{each['reason']}: {each['message']}")
        for each in engine["conditions"]
    ]  # fmt: skip
    return [*lines, Text("  Conditions:", style="bold"), *_table(("TYPE", "STATUS", "SINCE", "WHY"), rows, width)]


def _footprint(figures: Page, width: int | None) -> list[Text]:
    sizes = [
        f"{name.removesuffix('_bytes')} {amount(figures[name], guessed=is_guess(figures['sources'].get(name)))}"
        for name in _SIZES
    ]
    times = [f"{name.removesuffix('_s')} {seconds(figures[name])}" for name in _TIMES]
    return [*_prose(", ".join(sizes), width), *_prose(", ".join(times), width)]


def _spec(spec: Page, width: int | None) -> list[Text]:
    """What was said and what follows from the defaults, in the words of models.yaml."""
    lines = []
    for name, value in spec.items():
        lines += _prose(f"{name}: {setting_value(name, value)}", width)
    return lines


def _events(events: Sequence[Page], now: datetime, width: int | None) -> list[Text]:
    rows = [
        (each["type"], each["reason"], _age(each, now), each["message"])
        for each in events
    ]  # fmt: skip
    return _table(("TYPE", "REASON", "AGE", "MESSAGE"), rows, width) if rows else [Text("  <none>")]


def _age(event: Page, now: datetime) -> str:
    last = ago(event["lastTimestamp"], now).removesuffix(" ago")
    if event["count"] == 1:
        return last
    return f"{last} (x{event['count']} over {ago(event['firstTimestamp'], now).removesuffix(' ago')})"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], width: int | None) -> list[Text]:
    """The last column is prose, and wrapped."""
    rows = list(rows)
    sizes = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns) - 1)]
    lines = [Text(_cells(columns, sizes) + columns[-1], style="dim")]
    for row in rows:
        first = _cells(row, sizes)
        room = None if width is None or width - len(first) >= 30 else width
        if room is not None:  # no room for prose beside the rest
            lines += [Text(first.rstrip()), *_prose(row[-1], width, indent="      ")]
        else:
            lines += [Text(line) for line in wrapped(row[-1], width, indent=" " * len(first), first=first)]
    return lines


def _cells(row: Sequence[str], sizes: Sequence[int]) -> str:
    return "  " + "".join(f"{cell.ljust(size)}  " for cell, size in zip(row, sizes, strict=False))


def _prose(text: str, width: int | None, *, indent: str = "  ") -> list[Text]:
    return [Text(line) for line in wrapped(text, width, indent=f"{indent}  ", first=indent)]
