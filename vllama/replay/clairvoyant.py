"""A reference: the same world and planner, told of the future who is needed when, instead of who was used last."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from vllama.domain.demand import Demand
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Asleep, EngineObservation, Snapshot
from vllama.domain.replicas import expanded
from vllama.domain.spec import SleepLevel
from vllama.replay.costs import Costs, ModelCosts
from vllama.replay.trace import Trace
from vllama.replay.world import Foresight, names_of

_SOON_S = 1.0  # who is needed sooner than this is needed now


def clairvoyant(trace: Trace, desired: DesiredState, costs: Costs) -> Foresight:
    """For `simulate` with the policy LRU: who is cheapest to do without goes first. Greedy, so not the best there is.

    Cheapest is: (seconds that those wait who need it next, if it is brought back for the first of them) / (bytes that
    it gives) / (seconds until then). The planner is told that who is cheapest was used least recently; and as all were
    used later than now, nobody rests by time.
    """
    firsts = [spec for spec in desired.models.values() if spec.replica == 1]
    served = {name: spec.model for spec in firsts for name in names_of(spec)}
    origin_s = trace.requests[0].at_s if trace.requests else 0.0
    arrivals: dict[str, list[float]] = defaultdict(list)
    for request in trace:
        arrivals[served[request.model]].append(request.at_s - origin_s)
    specs = expanded(firsts)

    def foresee(demand: Mapping[str, Demand], snapshot: Snapshot) -> Mapping[str, Demand]:
        now, value = snapshot.taken_at, dict.fromkeys(demand, 0.0)
        for engine in snapshot.engines:
            spec = specs[engine.model]
            known = arrivals[spec.served_name]
            after = bisect_right(known, now)
            if after < len(known):
                back_s, given_bytes = _back(engine, costs[spec.served_name], sleeps=spec.sleep_mode)
                ready_at = known[after] + back_s  # if it is brought back when it is needed
                waiting_s = sum(ready_at - at for at in known[after : bisect_right(known, ready_at)])
                value[engine.model] = waiting_s / given_bytes / max(_SOON_S, known[after] - now)
        order = sorted(demand, key=lambda name: (value[name], name))
        return {name: replace(demand[name], last_used_at=now + 1 + rank) for rank, name in enumerate(order)}

    return foresee


def _back(engine: EngineObservation, costs: ModelCosts, *, sleeps: bool) -> tuple[float, int]:
    """How much longer it would take to bring it back, in seconds, and the bytes that it gives."""
    wake_s, asleep = costs.wake_s.get(SleepLevel.WEIGHTS_OFFLOADED, 0.0), costs.footprint.asleep_bytes
    if isinstance(engine.state, Asleep):
        return costs.load_s - wake_s, max(1, asleep)
    if sleeps and engine.memory_bytes > asleep:
        return wake_s, engine.memory_bytes - asleep
    return costs.load_s, max(1, engine.memory_bytes)
