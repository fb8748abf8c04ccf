"""What a change of models.yaml would lead to: `vllama assign --dry-run`."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from vllama.cli.render.plan import render_settled
from vllama.cli.render.words import wrapped
from vllama.domain.units import format_bytes


def render_foreseen(answer: Mapping[str, Any], *, url: str, width: int | None) -> Text:
    """`answer` is that of /admin/plan/suppose."""
    before, after, start = answer["before"], answer["after"], answer["start"]
    lines = [Text(f"What the server at {url} would do:", style="bold")]
    if _acts(answer["plans"]):
        lines.append(render_settled(answer["plans"], width=width))
        anyway = _acts(answer["plans"]) - _acts(answer["anyway"])
        lines += [] if anyway else _wrap("All of this it would do anyway.", width)
    else:
        lines += _wrap("Nothing now.", width)
    lines += _takes(None if before is None else before["awake_bytes"], after["awake_bytes"], width)
    lines += _wrap(f"Alone with what is pinned: {start['reason']}: {start['message']}", width)
    return Text("\n").join(lines)


def render_here(here: Mapping[str, Any], *, width: int | None) -> Text:
    """`here`: the fields of Here."""
    lines = _takes(here["before_bytes"], here["after_bytes"], width)
    if here["start"] is not None:
        lines += _wrap(f"With this machine to itself: {here['reason']}: {here['start']}", width)
    else:
        lines += _wrap("What else it leads to can be told where its server runs (--server).", width)
    return Text("\n").join(lines)


def _takes(before: int | None, after: int | None, width: int | None) -> list[Text]:
    now, then = ("not known" if size is None else format_bytes(size) for size in (before, after))
    change = then if now == then else f"{now} -> {then}"
    return _wrap(f"Takes when awake, of each of its devices: {change}", width)


def _acts(plans: Sequence[Mapping[str, Any]]) -> set[tuple[str, str]]:
    return {
        (decision["action"]["verb"], decision["model"])
        for plan in plans
        for decision in plan["decisions"]
        if decision["action"] is not None
    }


def _wrap(text: str, width: int | None) -> list[Text]:
    return [Text(line) for line in wrapped(text, width, indent="  ", first="")]
