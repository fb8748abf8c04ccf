"""A plan as people read it: one row per model, below it why, last the sum."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.text import Text

from vllama.cli.render.words import counted, phase_style, place_names, wrapped
from vllama.domain.reason import Reason

Decision = Mapping[str, Any]

UNCHANGED_SHOWN = 10

_SYMBOLS = {"start": "+", "wake": "+", "sleep": "~", "stop": "-", "waiting": "…", "refused": "!", "unchanged": " "}
_STYLES = {"start": "green", "wake": "green", "sleep": "yellow", "stop": "red", "waiting": "cyan", "refused": "red"}
_WAITING = {
    Reason.STARTING, Reason.WAKING, Reason.DEVICE_BUSY, Reason.MAKING_ROOM, Reason.NO_IDLE_VICTIM,
    Reason.ROOM_RESERVED, Reason.DRAINING_OTHERS, Reason.BACKING_OFF, Reason.DEVICE_UNKNOWN, Reason.STATE_UNKNOWN,
    Reason.GOING_DOWN, Reason.DRAINING, Reason.DRAINED_FOR_WAITER, Reason.NODE_AWAITED,
}  # fmt: skip


def kind_of(decision: Decision) -> str:
    """`start`, `wake`, `sleep`, `stop`, or without an action `refused`, `waiting`, `unchanged`."""
    if decision["action"] is not None:
        return str(decision["action"]["verb"])
    if decision["refused"]:
        return "refused"
    return "waiting" if decision["waits_for"] or decision["reason"] in _WAITING else "unchanged"


def render_plan(
    plan: Mapping[str, Any], *, width: int | None = None, show_all: bool = False, several_nodes: bool = False
) -> Text:
    """`width` None: nothing is wrapped. Without `show_all` at most ten unchanged models are shown. Where there are
    `several_nodes`, each device is said with its own.
    """
    decisions: Sequence[Decision] = plan["decisions"]
    lines = _rows(decisions, width=width, show_all=show_all, several=several_nodes)
    return _joined([*lines, *([Text("")] if lines else []), *_last(f"Plan: {_sum(decisions)}.", width)])


def render_settled(
    plans: Sequence[Mapping[str, Any]], *, width: int | None = None, show_all: bool = False, several_nodes: bool = False
) -> Text:
    """One plan after the other, only what each does; then where that ends."""
    steps = [acting for plan in plans if (acting := [d for d in plan["decisions"] if d["action"] is not None])]
    lines: list[Text] = []
    for number, step in enumerate(steps, start=1):
        rows = _rows(step, width=width, show_all=True, several=several_nodes)
        lines += [Text(f"Step {number}", style="bold"), *rows, Text("")]
    end = [_settled(decision) for decision in plans[-1]["decisions"]] if plans else []
    rows = _rows(end, width=width, show_all=show_all, several=several_nodes)
    lines += [Text("Then" if steps else "Now", style="bold"), *rows, Text("")]
    actions = _sum([decision for step in steps for decision in step], rest=end)
    return _joined([*lines, *_last(f"Plan: {counted(len(steps), 'step')}: {actions}.", width)])


def _settled(decision: Decision) -> Decision:
    if decision["action"] is None:
        return decision
    return {**decision, "before": decision["after"], "action": None, "reason": "", "message": "", "waits_for": ()}


def _sum(decisions: Iterable[Decision], *, rest: Iterable[Decision] | None = None) -> str:
    kinds = Counter(kind_of(decision) for decision in decisions)
    others = kinds if rest is None else Counter(kind_of(decision) for decision in rest)
    to_do = ", ".join(f"{kinds[verb]} to {verb}" for verb in ("start", "sleep", "wake", "stop"))
    return f"{to_do}; " + ", ".join(f"{others[kind]} {kind}" for kind in ("waiting", "refused", "unchanged"))


def _rows(decisions: Iterable[Decision], *, width: int | None, show_all: bool, several: bool) -> list[Text]:
    shown, hidden = list(decisions), 0
    if not show_all:
        unchanged = [d for d in shown if kind_of(d) == "unchanged"]
        unchanged.sort(key=lambda d: (d["reason"] == Reason.NOT_WANTED, d["model"]))
        left_out = {d["model"] for d in unchanged[UNCHANGED_SHOWN:]}
        shown, hidden = [d for d in shown if d["model"] not in left_out], len(left_out)
    names = max((len(d["model"]) for d in shown), default=0)
    names = names if width is None else min(names, width // 2)
    states = max((len(_state(d).plain) for d in shown), default=0)
    lines = [
        line for d in shown for line in (*_head(d, _where(d, several=several), names, states, width), *_why(d, width))
    ]
    if hidden:
        lines.append(Text(f"    and {hidden} more unchanged; --all shows them", style="dim"))
    return lines


def _head(decision: Decision, where: str, names: int, states: int, width: int | None) -> list[Text]:
    kind, state = kind_of(decision), _state(decision)
    style = _STYLES.get(kind, "default")
    head = Text.assemble("  ", (_SYMBOLS[kind], style), " ", decision["model"].ljust(names), "  ", state)
    if not where:
        return [head]
    padding = " " * (states - len(state.plain) + 2)
    if width is None or len(head.plain) + len(padding) + len(where) <= width:
        return [head.append(padding).append(where, style=style)]
    return [head, *(Text(line, style=style) for line in wrapped(where, width, indent=" " * 6))]


def _state(decision: Decision) -> Text:
    before, after = decision["before"], decision["after"]
    state = Text(before, style=phase_style(before))
    return state if before == after else state.append(" -> ", style="dim").append(after, style=phase_style(after))


def _where(decision: Decision, *, several: bool) -> str:
    action = decision["action"]
    if action is None:
        others = [model for model in decision["waits_for"] if model != decision["model"]]
        return f"waits for {', '.join(others)}" if others else ""
    level = {"sleep": "at", "wake": "from"}.get(action["verb"])
    where = place_names(action, several_nodes=several, between=", ")
    return f"{where}, {level} level {action['level']}" if level and action.get("level") else where


def _why(decision: Decision, width: int | None) -> list[Text]:
    reason = decision["reason"]
    if not reason:
        return []
    lines = [Text(line) for line in wrapped(f"{reason}: {decision['message']}", width, indent=" " * 6)]
    lines[0].stylize("bold", 6, 6 + len(reason) + 1)
    return lines


def _last(text: str, width: int | None) -> list[Text]:
    return [Text(line) for line in wrapped(text, width, indent=" " * 6, first="")]


def _joined(lines: Iterable[Text]) -> Text:
    return Text("\n").join(lines)
