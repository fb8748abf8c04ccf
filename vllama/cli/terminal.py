"""The terminal: how wide, with colour or not, and the two ways to put something on it."""

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.text import Text


def is_coloured(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width() -> int | None:
    """Columns of the terminal (COLUMNS wins). None: not a terminal, so nothing is wrapped or dropped."""
    fallback = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    try:
        columns = int(os.environ.get("COLUMNS", ""))
    except ValueError:
        columns = 0
    return (columns if columns > 0 else fallback) or None


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
