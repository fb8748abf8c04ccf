"""How far a download is: bars on a terminal, elsewhere a line for each file that has come."""

import threading
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from vllama.cli.render.table import cut
from vllama.cli.terminal import is_coloured, show
from vllama.domain.units import format_bytes
from vllama.engine.download import Download

LOOK_S = 0.25
NAME_COLUMNS = 26  # leaves room for the rest in 80


def follow(download: Download, over: threading.Event, *, stream: TextIO) -> None:
    """Until it is `over`."""
    if is_coloured(stream):
        _bars(download, over, stream)
    else:
        _lines(download, over, stream)


def _lines(download: Download, over: threading.Event, stream: TextIO) -> None:
    come = {name for name, (done, size) in download.files().items() if done >= size}
    running = True
    while running:
        running = not over.wait(LOOK_S)
        for name, (done, size) in download.files().items():
            if done >= size and name not in come:
                come.add(name)
                show(Text(f"  {name}  {format_bytes(size)}"), stream=stream)


def _bars(download: Download, over: threading.Event, stream: TextIO) -> None:
    console = Console(file=stream, highlight=False)
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), DownloadColumn(binary_units=True),
        TransferSpeedColumn(), TimeRemainingColumn(compact=True),
    )  # fmt: skip
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console, transient=True, expand=True) as shown:
        whole = shown.add_task("in all".ljust(NAME_COLUMNS), total=download.listing.size_bytes or None)
        while not over.wait(LOOK_S):
            files = download.files()
            shown.update(whole, completed=sum(done for done, _ in files.values()))
            for name, (done, size) in files.items():
                if name not in bars and 0 < done < size:
                    bars[name] = shown.add_task(cut(name, NAME_COLUMNS).ljust(NAME_COLUMNS), total=size, completed=done)
                elif name in bars and done >= size:
                    shown.remove_task(bars.pop(name))
                    console.print(Text(f"  {name}  {format_bytes(size)}"), soft_wrap=True)
                elif name in bars:
                    shown.update(bars[name], completed=done)
