"""`vllama events` at work."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from vllama.cli.client import AdminClient
from vllama.cli.render.events import render_event
from vllama.cli.terminal import show, show_json, width


def run(client: AdminClient, model: str | None, *, limit: int, follow: bool, as_json: bool) -> None:
    if follow:
        for event in client.follow_events(model, limit):
            print(json.dumps(event), flush=True) if as_json else _show(event)
        return
    found = client.events(model, limit)
    if as_json:
        show_json(found)
    elif not found:
        print("Nothing has happened yet." if model is None else f"Nothing has happened to {model} yet.")
    else:
        for event in found:
            _show(event)


def _show(event: Mapping[str, Any]) -> None:
    zone = datetime.now().astimezone().tzinfo
    show(render_event(event, zone=zone, columns=width()))
