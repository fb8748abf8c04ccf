"""`vllama show`."""

from datetime import UTC, datetime

from vllama.cli.client import AdminClient
from vllama.cli.render.card import render_card
from vllama.cli.terminal import show, show_json, width


def run(client: AdminClient, model: str, *, as_json: bool) -> None:
    """`model` may be any name of it."""
    card = client.card(model)
    if as_json:
        show_json(card)
    else:
        several = client.has_several_nodes()
        show(render_card(card, now=datetime.now(UTC), width=width(), several_nodes=several))
