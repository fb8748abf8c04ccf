"""The terminal: how wide, with colour or not, and the two ways to put something on it."""

import json
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.text import Text


def is_coloured(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width(stream: TextIO | None = None) -> int | None:
    """Columns of the terminal (COLUMNS wins). None: not a terminal, so nothing is wrapped or dropped."""
    stream = sys.stdout if stream is None else stream
    try:
        columns = int(os.environ.get("COLUMNS") or 0) or os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # no terminal; COLUMNS is no number; not even a file
        return None
    return columns if columns > 0 else None


def show(text: "Text", *, stream: TextIO | None = None) -> None:
    """`text` and a line end, in colour where that is wanted."""
    stream = sys.stdout if stream is None else stream
    if not is_coloured(stream):
        print(text.plain, file=stream, flush=True)
        return
    from rich.console import Console  # noqa: PLC0415  # not for `--help`

    Console(file=stream, highlight=False).print(text, soft_wrap=True)


def show_json(value: Any) -> None:
    print(json.dumps(value, indent=2), flush=True)
