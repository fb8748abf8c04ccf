"""`vllama list`."""

import os
import shutil
from pathlib import Path
from typing import Any

from vllama.cli.connect import Reached
from vllama.cli.failure import complain
from vllama.cli.render.stock import render_stock
from vllama.cli.stock import take_stock
from vllama.cli.terminal import show, show_json, width
from vllama.engine.cache import hub_directory


def run(reached: Reached[list[Any]], config_dir: Path, *, as_json: bool) -> None:
    """`reached`: the statuses of a server. What could not be learned is said on stderr, and the rest is shown."""
    if reached.problem is not None:
        complain(reached.problem, word="warning")
    stock = take_stock(config_dir.expanduser(), os.environ, reached.answer)
    if stock.problem is not None:
        complain(f"{stock.problem}\nWhat it declares is not shown.", word="warning")
    if as_json:
        show_json([each.as_json() for each in stock.models])
        return
    hub = hub_directory(os.environ)
    show(render_stock(stock.models, hub=str(hub), free_bytes=free_bytes(hub), width=width()))


def free_bytes(hub: Path) -> int | None:
    """Of its disk, also while the directory itself is not there yet. None: not known."""
    try:
        place = next(path for path in (hub, *hub.absolute().parents) if path.exists())
        return shutil.disk_usage(place).free
    except (OSError, StopIteration):
        return None
