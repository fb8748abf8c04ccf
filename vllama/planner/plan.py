"""The one function that decides. All control flow of a plan is here; each step is a module beside it."""

from vllama.domain.decision import Plan
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Snapshot
from vllama.planner.draft import Draft
from vllama.planner.further import serve_further
from vllama.planner.ladder import relieve_hosts, rest
from vllama.planner.serve import serve
from vllama.planner.upkeep import keep_up
from vllama.planner.view import View
from vllama.planner.wanted import wanted_models


def plan(desired: DesiredState, snapshot: Snapshot, now: float) -> Plan:
    """One Decision per model, always. Pure: same inputs, same plan, whatever their order.

    `now` and all times are seconds of the monotonic clock. A first decision about a model stands, so the order
    of the steps is the order of precedence: what must happen anyway, then who is wanted, in turn, each with
    those who make room for it, then further replicas, then time.
    """
    view = View(desired=desired, snapshot=snapshot, now=now)
    draft = Draft(view)
    models = sorted({*desired.models, *view.engines, *view.operations, *view.lost})
    for model in models:
        keep_up(draft, model)
    wants = wanted_models(view)
    for want in wants:
        if not draft.decided(want.model):
            serve(draft, want)
    serve_further(draft, wants)
    draft.nobody_else_makes_room()
    relieve_hosts(draft)
    for model in models:
        if not draft.decided(model):
            rest(draft, model)
    return draft.plan()
