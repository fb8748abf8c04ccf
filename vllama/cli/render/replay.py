"""What replays of a trace found, policy by policy: as tables, and as JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from vllama.cli.render.words import counted, one_line, wrapped
from vllama.domain.units import format_bytes, format_duration
from vllama.replay.result import Result, Tally, quantile
from vllama.replay.trace import Trace

SHOWN_MODELS = 15
GAP = "  "
DROPPED_FIRST = ("P50", "MOVED", "MEAN", "WAKES", "STARTS")  # where the terminal is narrow
DROPPED_BY_MODEL = ("P99 ", "SWAPS ", "REQUESTS")
_TOTALS = ("starts", "wakes", "sleeps", "stops", "swaps", "moved_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`rule`: the policy by its name."""

    rule: str
    result: Result


def outcome_json(each: Outcome) -> dict[str, Any]:
    result = each.result
    return {
        "policy": each.rule, "waiting_s": round(result.waiting_s, 3), "mean_s": round(result.mean_s, 3),
        "p50_s": round(result.quantile_s(0.5), 3), "p99_s": round(result.quantile_s(0.99), 3),
        "longest_s": round(result.longest_s, 3), "served": result.served, "refused": result.refused,
        "unserved": result.unserved, **{name: result.total(name) for name in _TOTALS}, "plans": result.plans,
        "models": [_model_json(model, tally) for model, tally in sorted(result.models.items())],
    }  # fmt: skip


def _model_json(model: str, tally: Tally) -> dict[str, Any]:
    waiting, served = sum(tally.waits_s), len(tally.waits_s)
    return {
        "model": model, "requests": served + tally.refused, "refused": tally.refused, "waiting_s": round(waiting, 3),
        "mean_s": round(waiting / served, 3) if served else 0.0, "p99_s": round(quantile(tally.waits_s, 0.99), 3),
        "longest_s": round(max(tally.waits_s, default=0.0), 3), **{name: getattr(tally, name) for name in _TOTALS},
    }  # fmt: skip


def render_replay(
    trace: Trace,
    outcomes: Sequence[Outcome],
    *,
    devices: str,
    assumed: Sequence[str],
    models: int,
    show_all: bool,
    width: int | None = None,
) -> Text:
    """A line per policy, then a line per model, who waited longest first. `models`: how many there are."""
    head = f"{counted(len(trace), 'request')} for {counted(len(trace.models), 'model')} in "
    lines = [Text(f"{head}{format_duration(trace.span_s)} on {devices}."), Text("")]
    lines += _table([_policy_cells(each, outcomes[0]) for each in outcomes], DROPPED_FIRST, width)
    lines += [Text(""), *_by_model(outcomes, width, show_all=show_all)]
    first = outcomes[0].result
    if first.refused:
        never = [model for model, tally in first.models.items() if tally.refused]
        text = f"{counted(first.refused, 'request')} refused, as these can never fit: {', '.join(sorted(never))}."
        lines += [Text(""), *(Text(line, style="yellow") for line in wrapped(text, width, indent=""))]
    if first.unserved:
        text = f"{counted(first.unserved, 'request')} would wait for ever."
        lines += [Text(""), *(Text(line, style="red") for line in wrapped(text, width, indent=""))]
    if assumed:
        who = "of all models" if len(assumed) == models else f"of {', '.join(assumed)}"
        text = f"Not measured here, so assumed from their weights: how long changes take {who}."
        lines += [Text(""), *(Text(line, style="dim") for line in wrapped(text, width, indent=""))]
    return Text("\n").join(lines)


def _policy_cells(each: Outcome, first: Outcome) -> Mapping[str, str]:
    result = each.result
    than = "" if each is first else _ratio(result.waiting_s, first.result.waiting_s)
    return {
        "POLICY": each.rule, "WAITING": format_duration(result.waiting_s), f"THAN {first.rule.upper()}": than,
        "MEAN": _short(result.mean_s), "P50": _short(result.quantile_s(0.5)), "P99": _short(result.quantile_s(0.99)),
        "LONGEST": _short(result.longest_s), "STARTS": str(result.total("starts")),
        "WAKES": str(result.total("wakes")), "MOVED": format_bytes(result.total("moved_bytes")),
    }  # fmt: skip


def _ratio(one: float, other: float) -> str:
    return f"x {one / other:.2f}" if other > 0 else "-"


def _short(seconds: float) -> str:
    return f"{seconds:.2f}s" if seconds < 9.995 else format_duration(seconds)


def _by_model(outcomes: Sequence[Outcome], width: int | None, *, show_all: bool) -> list[Text]:
    def waited(model: str) -> float:
        return max(sum(each.result.models[model].waits_s) for each in outcomes)

    order = sorted(outcomes[0].result.models, key=lambda model: (-waited(model), model))
    shown = order if show_all else order[:SHOWN_MODELS]
    rows = []
    for model in shown:
        row = {"MODEL": one_line(model), "REQUESTS": str(len(outcomes[0].result.models[model].waits_s))}
        for each in outcomes:
            tally, name = each.result.models[model], each.rule.upper()
            row[f"WAITING {name}"] = format_duration(math.fsum(tally.waits_s))
            row[f"P99 {name}"] = _short(quantile(tally.waits_s, 0.99))
            row[f"SWAPS {name}"] = str(tally.swaps)
        rows.append(row)
    more = len(order) - len(shown)
    return [
        *_table(rows, DROPPED_BY_MODEL, width),
        *([Text(f"and {more} more; --all shows them", style="dim")] if more else []),
    ]


def _table(rows: Sequence[Mapping[str, str]], dropped: Sequence[str], width: int | None) -> list[Text]:
    """The first column is a name, all others are numbers. Columns in which nothing stands are left out, and where it is
    too wide those that begin as `dropped` says, in that order.
    """
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
    for start in dropped:
        if width is not None and sum(widths[name] + len(GAP) for name in names) - len(GAP) > width:
            names = [name for name in names if not name.startswith(start)]
    lines = [{name: name for name in names}, *rows]
    return [
        Text(
            GAP.join(
                line[name].ljust(widths[name]) if place == 0 else line[name].rjust(widths[name])
                for place, name in enumerate(names)
            ).rstrip(),
            style="bold" if number == 0 else "",
        )
        for number, line in enumerate(lines)
    ]
