"""`vllama plan`."""

from vllama.cli.client import AdminClient
from vllama.cli.failure import CHANGES
from vllama.cli.render.plan import render_plan, render_settled
from vllama.cli.terminal import show, show_json, width


def run(client: AdminClient, *, settle: bool, show_all: bool, as_json: bool) -> int:
    """What the server would do now; `settle`: and then, to the end. CHANGES if that is anything, else 0."""
    plans = client.plans(settle=settle)
    if as_json:
        show_json(plans if settle else plans[0])
    elif settle:
        several = client.has_several_nodes()
        show(render_settled(plans, width=width(), show_all=show_all, several_nodes=several))
    else:
        show(render_plan(plans[0], width=width(), show_all=show_all, several_nodes=client.has_several_nodes()))
    acts = any(decision["action"] is not None for plan in plans for decision in plan["decisions"])
    return CHANGES if acts else 0
