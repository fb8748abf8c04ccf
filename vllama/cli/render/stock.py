"""The table of `vllama list`."""

from collections.abc import Sequence

from rich.text import Text

from vllama.cli.render.table import phase_table
from vllama.cli.render.words import amount, counted, one_line, wrapped
from vllama.cli.stock import Stocked
from vllama.domain.units import format_bytes

COLUMNS = ("MODEL", "PHASE", "TYPE", "SIZE", "DECLARED")
DROPPED_FIRST = ("DECLARED", "TYPE")
SHOWN_MISSING = 4
_NONE = "No models yet: fetch one with `vllama pull Qwen/Qwen3-0.6B`, or declare one in models.yaml."


def render_stock(models: Sequence[Stocked], *, hub: str, free_bytes: int | None, width: int | None = None) -> Text:
    """`hub` is the model cache, `free_bytes` what its disk has left. A narrow terminal loses DECLARED, then TYPE."""
    if not models:
        return Text("\n".join(wrapped(_NONE, width, indent="")))
    phases = [(each.phase or "-").partition(" ")[0] for each in models]
    table = phase_table(COLUMNS, [_cells(each) for each in models], phases, dropped=DROPPED_FIRST, width=width)
    lines = [table[0]]
    for each, row in zip(models, table[1:], strict=True):
        lines += [row, *(Text(line, style="yellow") for line in _note(each, width))]
    return Text("\n").join([*lines, Text(""), *_sum(models, hub, free_bytes, width)])


def _cells(each: Stocked) -> dict[str, str]:
    return {
        "MODEL": one_line(each.model),
        "PHASE": each.phase or "-",
        "TYPE": "-" if each.on_disk is not None and each.on_disk.note else each.task.value,
        "SIZE": amount(None if each.on_disk is None else each.on_disk.size_bytes),
        "DECLARED": "yes" if each.declared else "no",
    }


def _note(each: Stocked, width: int | None) -> list[str]:
    found = each.on_disk
    if found is None:
        text = "not here: fetched by its first call, or by `vllama pull`" if each.declared else ""
    elif found.note:
        text = found.note
    elif found.complete:
        text = ""
    else:
        more = len(found.missing) - SHOWN_MISSING
        named = ", ".join(found.missing[:SHOWN_MISSING]) + (f" and {more} more" if more > 0 else "")
        text = f"incomplete, lacks {named}"
    return wrapped(text, width, indent="    ", first="  ! ") if text else []


def _sum(models: Sequence[Stocked], hub: str, free_bytes: int | None, width: int | None) -> list[Text]:
    size = sum(each.on_disk.size_bytes for each in models if each.on_disk is not None)
    free = "" if free_bytes is None else f", {format_bytes(free_bytes)} free"
    text = f"{counted(len(models), 'model')}, {format_bytes(size)} on disk; the model cache is {hub}{free}."
    return [Text(line, style="dim") for line in wrapped(text, width, indent="")]
