"""`vllama plan --request` and `vllama plan --matrix`: what would be."""

from collections.abc import Sequence

from vllama.cli.client import AdminClient
from vllama.cli.failure import CHANGES
from vllama.cli.render.matrix import render_matrix
from vllama.cli.render.rehearsal import render_rehearsal
from vllama.cli.terminal import show, show_json, width


def rehearse(client: AdminClient, models: Sequence[str], *, as_json: bool) -> int:
    """What calling `models` in this order would lead to. CHANGES if that is anything, else 0."""
    answer = client.rehearsal(models)
    if as_json:
        show_json(answer)
    else:
        show(render_rehearsal(answer, width=width()))
    return CHANGES if answer["steps"] else 0


def matrix(client: AdminClient, *, as_json: bool) -> None:
    answer = client.matrix()
    if as_json:
        show_json(answer)
    else:
        show(render_matrix(answer, width=width()))
