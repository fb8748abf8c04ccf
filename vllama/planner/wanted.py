"""Who is to be ready, and in which order: priority with ageing, then arrival."""

from dataclasses import dataclass

from vllama.domain.demand import Demand, WantAsleep, WantReady, WantStopped
from vllama.planner.view import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """`since` is the arrival of the oldest request (or of the start, or of the pin), in seconds, monotonic.

    `further`: an engine beside one that serves; it displaces nobody.
    """

    model: str
    since: float
    why: str
    further: bool = False


def wanted_models(view: View) -> list[Wanted]:
    """Every model that somebody wants ready now and no operator holds down, most urgent first."""
    found = [want for model in view.desired.models if (want := _want(view, model)) is not None]
    return sorted(found, key=lambda want: (_turn(view, want), want.since, want.model))


def _want(view: View, model: str) -> Wanted | None:
    demand, override = view.demand(model), view.override(model)
    if override is None and not demand.waiting and not view.pinned(model):
        return None
    if isinstance(override, WantAsleep | WantStopped):
        return None
    reasons: list[tuple[float, str]] = []
    if demand.waiting and demand.oldest_waiting_at is not None:
        reasons.append((demand.oldest_waiting_at, _who_waits(demand)))
    if isinstance(override, WantReady):
        reasons.append((override.at, "an operator started it"))
    if view.pinned(model):
        reasons.append((view.desired.since, "it is pinned"))
    if not reasons:
        return None
    return Wanted(model=model, since=min(reasons)[0], why=" and ".join(why for _, why in sorted(reasons)))


def _who_waits(demand: Demand) -> str:
    requests = demand.waiting - demand.expected
    said = [f"{requests} {'request waits' if requests == 1 else 'requests wait'}"] if requests else []
    if demand.expected:
        said.append("who could not wait is expected back")
    return " and ".join(said)


def _turn(view: View, want: Wanted) -> float:
    """Each step of priority is worth `ageing_s` of waiting. No `now` in it: two waiters never change places."""
    spec = view.spec(want.model)
    return want.since - (spec.priority if spec else 0) * view.policy.ageing_s
