"""`vllama top`: models, servers, what happened last, and the memory, as they change."""

import sys
from datetime import UTC, datetime

from rich.text import Text

from vllama.cli.client import AdminClient
from vllama.cli.ps import keep_showing
from vllama.cli.render.events import render_event
from vllama.cli.render.memory import render_memory
from vllama.cli.render.ps import render_ps
from vllama.cli.render.servers import render_servers
from vllama.cli.terminal import show, show_json, width

EVENTS = 6


def run(client: AdminClient, *, show_all: bool, as_json: bool) -> None:
    """Until interrupted on a terminal; elsewhere one look."""
    if as_json:
        answer = {"status": client.status(), "servers": client.servers(), "memory": client.memory()}
        show_json({**answer, "events": client.events(None, EVENTS)})
    elif sys.stdout.isatty():
        keep_showing(lambda: frame(client, show_all=show_all))
    else:
        show(frame(client, show_all=show_all))


def frame(client: AdminClient, *, show_all: bool) -> Text:
    """What matters most stands first: a low terminal shows no more."""
    columns, zone = width(), datetime.now().astimezone().tzinfo
    servers = client.servers()
    happened = [render_event(event, zone=zone, columns=columns) for event in client.events(None, EVENTS)]
    return Text("\n").join([
        render_ps(client.status(), now=datetime.now(UTC), width=columns, show_all=show_all),
        *([Text(""), render_servers(servers, width=columns)] if servers["servers"] else []),
        Text(""), *happened, *([Text("")] if happened else []),
        render_memory(client.memory(), width=columns),
    ])  # fmt: skip
