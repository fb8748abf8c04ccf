"""The page of `vllama show`: all that is known of one model."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.text import Text

from vllama.cli.render.ps import shown_phase
from vllama.cli.render.words import ago, amount, is_guess, phase_style, place_names, seconds, wrapped
from vllama.domain.units import format_bytes, format_duration

Card = Mapping[str, Any]

_SIZES = (
    ("awake_bytes", "awake"), ("asleep_bytes", "asleep"), ("weights_bytes", "weights, in all"),
    ("cache_bytes", "KV cache"), ("host_copy_bytes", "copy in host memory"),
)  # fmt: skip
_TIMES = (("load_s", "load"), ("sleep_s", "fall asleep"), ("wake_s", "wake up"))
_SOURCES = {
    "declared": "as models.yaml says",
    "estimated": "estimated from its config and weight files",
    "assumed": "assumed",
    "log": "as its engine said in its log",
    "measured": "measured",
}
_ASSUMED = {"asleep_bytes": "assumed until it has slept here", "host_copy_bytes": "1.5 x its weights"}
_BYTES = {"memory", "kv_cache_memory_bytes"}
_DURATIONS = {"idle.sleep_after", "idle.stop_after", "queue_timeout", "load_timeout", "stall_timeout"}
_NONE = {
    "idle.sleep_after": "never", "idle.stop_after": "never", "idle.level": "auto", "eviction_level": "auto",
    "memory": "auto", "devices": "auto", "max_concurrency": "none", "port": "any", "path": "none", "vllm": "on PATH",
}  # fmt: skip


def render_card(card: Card, *, now: datetime, width: int | None = None, several_nodes: bool = False) -> Text:
    """`card` is the answer of /admin/models/NAME."""
    sections = [
        _head(card, width, several=several_nodes), _memory(card, width), _levels(card, width), _settings(card, width),
        _command(card, width), _failures(card, now, width), _lately(card, now, width),
        [Text.assemble(("Log  ", "bold"), card["log"])],
    ]  # fmt: skip
    lines = [line for section in sections if section for line in (*section, Text(""))]
    return Text("\n").join(lines[:-1])


def _head(card: Card, width: int | None, *, several: bool) -> list[Text]:
    status, engine = card["status"], card["engine"]
    phase = shown_phase(status)
    head = Text.assemble((card["model"], "bold"), "  ", (phase, phase_style(status["phase"])))
    if engine is not None:
        where = place_names(engine, several_nodes=several)
        head.append(f"  {where}  port {engine['port']}  pid {engine['pid']}")
    lines = [head, *_wrap(f"{status['reason']}: {status['message']}", width)]
    told = [("also called", ", ".join(status["aliases"])), ("can", ", ".join(card["tasks"] or ()))]
    if status["in_flight"] or status["waiting"]:
        told.append(("now", f"{status['in_flight']} in flight, {status['waiting']} waiting"))
    if not status["declared"]:
        told.append(("from", "the model cache; models.yaml does not name it"))
    if engine is not None and not engine["current"]:
        told.append(("but", "its engine runs with older settings than those below"))
    for what, said in told:
        lines += _wrap(f"{what}: {said}", width) if said else []
    return lines


def _memory(card: Card, width: int | None) -> list[Text]:
    figures, engine = card["figures"], card["engine"]
    rows = [(name, _size(figures, field), _source(figures, field)) for field, name in _SIZES]
    if engine is not None:
        held = "unknown" if engine["measured_bytes"] is None else format_bytes(engine["measured_bytes"])
        rows.append(("holds now", held, "measured on its device" if engine["measured_bytes"] is not None else ""))
        if engine["host_copy_bytes"]:
            rows.append(("pinned on the host", format_bytes(engine["host_copy_bytes"]), "until the engine ends"))
    rows += [
        (name, seconds(figures[field]), "not measured yet" if figures[field] is None else "when measured last")
        for field, name in _TIMES
    ]  # fmt: skip
    return [Text("Takes (of each device)", style="bold"), *_rows(rows, width)]


def _size(figures: Mapping[str, Any], field: str) -> str:
    return amount(figures[field], guessed=is_guess(figures["sources"].get(field)))


def _source(figures: Mapping[str, Any], field: str) -> str:
    source = figures["sources"].get(field)
    if source is None:
        return "vLLM takes what is left" if field == "cache_bytes" else "not known"
    return _ASSUMED.get(field, _SOURCES[source]) if source == "assumed" else _SOURCES[source]


def _rows(rows: Sequence[tuple[str, str, str]], width: int | None) -> list[Text]:
    names, sizes = max(len(row[0]) for row in rows), max(len(row[1]) for row in rows)
    lines = []
    for name, size, said in rows:
        line = Text(f"  {name.ljust(names)}  {size.rjust(sizes)}")
        if said and (width is None or len(line.plain) + 2 + len(said) <= width):
            line.append(f"  {said}", style="dim")
        line.rstrip()
        lines.append(line)
    return lines


def _levels(card: Card, width: int | None) -> list[Text]:
    if not card["levels"]:
        return []
    lines = [Text("Sleep", style="bold")]
    for verdict in card["levels"]:
        said = "possible" if verdict["why_not"] is None else f"no, {verdict['why_not']}"
        lines += _wrap(f"level {verdict['level']}: {said}", width)
    return lines


def _settings(card: Card, width: int | None) -> list[Text]:
    said = [each for each in card["settings"] if not each["default"]]
    usual = [each for each in card["settings"] if each["default"]]
    names = max((len(each["name"]) for each in said), default=0)
    lines = [Text("Settings", style="bold")]
    for each in said:
        first = f"  {each['name'].ljust(names)}  "
        lines += [Text(line) for line in wrapped(_value(each), width, indent=" " * len(first), first=first)]
    defaults = ", ".join(f"{each['name']} {_value(each)}" for each in usual)
    return lines + [Text(line.plain, style="dim") for line in _wrap(f"by default: {defaults}", width)]


def _value(setting: Mapping[str, Any]) -> str:
    return setting_value(setting["name"], setting["value"])


def setting_value(name: str, value: Any) -> str:
    """As people write it: with its unit, `yes`, `auto`."""
    match value:
        case None:
            return _NONE.get(name, "none")
        case "":
            return '""'
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(str, value)) or "none"
        case int() if name in _BYTES:
            return format_bytes(value)
        case int() | float() if name in _DURATIONS:
            return format_duration(value)
        case 3 if name in {"idle.level", "eviction_level"}:
            return "stop"
        case _:
            return str(value)


def _command(card: Card, width: int | None) -> list[Text]:
    command = card["command"]
    if command["problem"] is not None:
        return [Text("Would not start", style="bold"), *_wrap(command["problem"], width)]
    lines = [Text("Would be started as", style="bold")]
    lines += [Text(f"  {name}={shlex.quote(value)} \\", style="dim") for name, value in command["env"].items()]
    parts = list(_flags(command["argv"]))
    lines += [Text(f"  {part} \\") for part in parts[:-1]]
    return [*lines, Text(f"  {parts[-1]}")]


def _flags(argv: Iterable[str]) -> Iterable[str]:
    """One flag with its values after the other, as a shell would take them."""
    part: list[str] = []
    for argument in argv:
        if argument.startswith("--") and part:
            yield shlex.join(part)
            part = [argument]
        else:
            part.append(argument)
    yield shlex.join(part)


def _failures(card: Card, now: datetime, width: int | None) -> list[Text]:
    failures = card["failures"]
    if failures is None:
        return []
    retry = failures["retry_in_s"]
    again = "may be tried again" if retry is None else f"next try in {format_duration(retry)}"
    said = f"{failures['count']}x in a row, last {ago(failures['last_at'], now)}; {again}. {failures['cause']}"
    return [Text("Failed", style="bold red"), *_wrap(said, width)]


def _lately(card: Card, now: datetime, width: int | None) -> list[Text]:
    lines = [Text("Lately", style="bold")] if card["lately"] else []
    for event in card["lately"]:
        said = _wrap(f"{ago(event['at'], now)}, {event['reason']}: {event['message']}", width)
        lines += [Text(line.plain, style="yellow") for line in said] if event["warning"] else said
    return lines


def _wrap(text: str, width: int | None) -> list[Text]:
    return [Text(line) for line in wrapped(text, width, indent="    ", first="  ")]
