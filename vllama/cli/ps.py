"""`vllama ps`."""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from rich.console import Console
from rich.live import Live
from rich.text import Text

from vllama.cli.client import AdminClient
from vllama.cli.failure import CommandFailed
from vllama.cli.options import PsOutput
from vllama.cli.render.ps import render_conditions, render_ps
from vllama.cli.render.wide import render_wide
from vllama.cli.terminal import is_coloured, show, show_json, width

REFRESH_S = 1.0


def run(client: AdminClient, *, show_all: bool, output: PsOutput) -> None:
    if output is PsOutput.JSON:
        status = client.status()
        for line in render_conditions(status["conditions"]):
            show(line, stream=sys.stderr)
        show_json(status["models"])
    else:
        show(_table(client, show_all=show_all, wide=output is PsOutput.WIDE))


def watch(client: AdminClient, *, show_all: bool, wide: bool = False) -> None:
    keep_showing(lambda: _table(client, show_all=show_all, wide=wide))


def keep_showing(frame: Callable[[], Text]) -> None:
    """Until interrupted. A server that is away for a moment is said, and asked again."""
    table = frame()
    if not sys.stdout.isatty():
        while True:
            show(table)
            time.sleep(REFRESH_S)
            table = Text("\n").append_text(_frame_or_error(frame))
    coloured = is_coloured(sys.stdout)
    with Live(console=Console(highlight=False), auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            live.update(table if coloured else Text(table.plain), refresh=True)
            time.sleep(REFRESH_S)
            table = _frame_or_error(frame)


def _table(client: AdminClient, *, show_all: bool, wide: bool) -> Text:
    if wide:
        return render_wide(client.status(), client.memory(), width=width(), show_all=show_all)
    return render_ps(client.status(), now=datetime.now(UTC), width=width(), show_all=show_all)


def _frame_or_error(frame: Callable[[], Text]) -> Text:
    try:
        return frame()
    except CommandFailed as failed:
        return Text(failed.message.splitlines()[0], style="red")
