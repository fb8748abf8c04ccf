"""`vllama restart`: stop, then start, each watched to its end."""

from vllama.cli.client import AdminClient
from vllama.cli.failure import CommandFailed
from vllama.cli.progress import Wish, ending, watch
from vllama.cli.terminal import show, show_json


def run(client: AdminClient, model: str, *, timeout_s: float | None, as_json: bool) -> None:
    """CommandFailed if it is not ready in the end. Called while it stops, it starts by that: as good as a start."""
    status, problem = watch(client, Wish(verb="stop", model=model), timeout_s=timeout_s, as_json=as_json)
    if problem is None or status["phase"] in {"Starting", "Waking", "Ready"}:
        start = Wish(verb="start", model=status["model"])
        status, problem = watch(client, start, timeout_s=timeout_s, as_json=as_json)
    if as_json:
        show_json(status)
    elif problem is None:
        several = client.has_several_nodes()
        show(ending(Wish(verb="start", model=model), status, wait=True, several_nodes=several))
    if problem is not None:
        raise CommandFailed(problem)
