"""Tables whose columns are left out where the terminal is too narrow, in an order that is stated."""

from collections.abc import Mapping, Sequence

from rich.text import Text

from vllama.cli.render.words import phase_style

GAP = "  "


def phase_table(
    columns: Sequence[str],
    rows: Sequence[Mapping[str, str]],
    phases: Sequence[str],
    *,
    dropped: Sequence[str],
    width: int | None,
) -> list[Text]:
    """As `table`, the second column, PHASE, coloured as `phases` say, one for each row."""
    return table(columns, rows, [phase_style(phase) for phase in phases], dropped=dropped, width=width)


def table(
    columns: Sequence[str],
    rows: Sequence[Mapping[str, str]],
    styles: Sequence[str],
    *,
    dropped: Sequence[str],
    width: int | None,
) -> list[Text]:
    """The first column is a name, the second is a word that has the style of its row.

    Columns go in the order of `dropped` until the rest fits into `width`; then the name is cut.
    """
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in columns}
    if width is not None:
        _fit(widths, width, dropped)
    lines = [Text(_line({name: name for name in widths}, widths), style="bold")]
    for row, style in zip(rows, styles, strict=True):
        line = Text(_line(row, widths))
        start = widths[columns[0]] + len(GAP)
        line.stylize(style, start, start + len(row[columns[1]]))
        lines.append(line)
    return lines


def _fit(widths: dict[str, int], width: int, dropped: Sequence[str]) -> None:
    for name in dropped:
        if _total(widths) <= width:
            return
        del widths[name]
    first = next(iter(widths))
    widths[first] = max(8, widths[first] - max(0, _total(widths) - width))


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + len(GAP) * (len(widths) - 1)


def _line(row: Mapping[str, str], widths: Mapping[str, int]) -> str:
    return GAP.join(cut(row[name], size).ljust(size) for name, size in widths.items()).rstrip()


def cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1] + "…"
