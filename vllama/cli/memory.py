"""`vllama memory`."""

from vllama.cli.client import AdminClient
from vllama.cli.render.memory import render_memory
from vllama.cli.terminal import show, show_json, width


def run(client: AdminClient, *, as_json: bool) -> None:
    answer = client.memory()
    if as_json:
        show_json(answer)
    else:
        show(render_memory(answer, width=width()))
