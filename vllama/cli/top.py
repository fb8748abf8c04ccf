"""`vllama top`: models, what happened last, and the memory, as they change."""

import sys
from datetime import UTC, datetime

from rich.text import Text

from vllama.cli.client import AdminClient
from vllama.cli.ps import keep_showing
from vllama.cli.render.events import render_event
from vllama.cli.render.memory import render_memory
from vllama.cli.render.ps import render_ps
from vllama.cli.terminal import show, show_json, width

EVENTS = 6


def run(client: AdminClient, *, show_all: bool, as_json: bool) -> None:
    """Until interrupted on a terminal; elsewhere one look."""
    if as_json:
        show_json({"status": client.status(), "memory": client.memory(), "events": client.events(None, EVENTS)})
    elif sys.stdout.isatty():
        keep_showing(lambda: frame(client, show_all=show_all))
    else:
        show(frame(client, show_all=show_all))


def frame(client: AdminClient, *, show_all: bool) -> Text:
    """What matters most stands first: a low terminal shows no more."""
    columns, zone = width(), datetime.now().astimezone().tzinfo
    happened = [render_event(event, zone=zone, columns=columns) for event in client.events(None, EVENTS)]
    return Text("\n").join([
        render_ps(client.status(), now=datetime.now(UTC), width=columns, show_all=show_all),
        Text(""), *happened, *([Text("")] if happened else []),
        render_memory(client.memory(), width=columns),
    ])  # fmt: skip
