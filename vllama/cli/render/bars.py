"""A bar in plain characters: how much of a whole belongs to whom."""

from collections.abc import Sequence

from rich.text import Text

AWAKE, ASLEEP, OTHERS, RESERVE, ROOM, UNKNOWN = "#=", "z", "x", "-", ".", "?"
LEGEND = "# = awake, one after the other   z asleep   x others   - reserve   . room"
_STYLES = {"#": "green", "=": "green", "z": "blue", "x": "magenta", "-": "dim", ".": "dim", "?": "yellow"}


def bar(parts: Sequence[tuple[str, int]], *, width: int) -> Text:
    """`parts`: character and size. Whatever is there at all has one cell at least, as long as there are cells."""
    cells = _shares([size for _, size in parts], max(1, width - 2))
    text = Text("[")
    for (char, _), count in zip(parts, cells, strict=True):
        text.append(char * count, style=_STYLES.get(char, "default"))
    return text.append("]")


def _shares(sizes: Sequence[int], cells: int) -> list[int]:
    """Whole cells in proportion, `cells` in all: the largest give to those that would have none."""
    total = sum(sizes)
    if total <= 0:
        return [0] * len(sizes)
    exact = [size * cells / total for size in sizes]
    found = [max(int(share), 1 if size else 0) for share, size in zip(exact, sizes, strict=True)]
    while sum(found) < cells:
        found[max(range(len(found)), key=lambda i: exact[i] - found[i])] += 1
    while sum(found) > cells:
        found[max(range(len(found)), key=lambda i: found[i])] -= 1
    return found
