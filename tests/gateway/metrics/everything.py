"""A server of which there is everything to tell: every family of /metrics has samples of it."""

from tests.planner.cluster import Cluster
from vllama.controller.condition import Condition
from vllama.controller.histogram import Histogram
from vllama.controller.measures import Measures, measures_of
from vllama.controller.servers.status import ServerStatus
from vllama.controller.tally import LAG_BOUNDS_S, OPERATION_BOUNDS_S, Cause, Sums
from vllama.controller.vitals import Vitals
from vllama.domain.observed import Verb
from vllama.domain.reason import Reason
from vllama.domain.status import ModelStatus, Phase
from vllama.domain.units import GIB
from vllama.engine.load import EngineLoad
from vllama.gateway.metrics.exposition import State
from vllama.gateway.metrics.finished import Finished
from vllama.gateway.metrics.meters import Meters

A, B = "org/A", "org/B"


def cluster(**more) -> Cluster:
    """A has two replicas that are awake on a device each, B sleeps on the second."""
    here = Cluster(gpus=(8.0, 8.0), reserve=0.5, residue=0.5, available=32.0, foreign={1: 1.0}, **more)
    here.model(A, 3.0, replicas=2).model(B, 2.0).engine(A, 0).engine(f"{A}#2", 1).asleep(B, 1, measured_bytes=GIB // 2)
    return here.waits(B, since=7.0)


def measures() -> Measures:
    sums = Sums()
    sums.stays_s |= {(A, Phase.READY): 20.5, (B, Phase.ASLEEP): 3.0}
    sums.operations[A, Verb.START, Reason.DEMANDED] = 2
    sums.operations[B, Verb.SLEEP, Reason.EVICTED] = sums.evictions[B, Verb.SLEEP, Reason.EVICTED] = 1
    sums.swaps[A, Cause.REQUEST] = 1
    sums.failures[B, Reason.ENGINE_EXITED, False] = 3
    sums.durations[A, Verb.START] = Histogram(OPERATION_BOUNDS_S)
    for seconds in (0.2, 12.0):
        sums.durations[A, Verb.START].add(seconds)
    sums.rejected_plans = 1
    return measures_of(*cluster().states(), sums, Histogram(LAG_BOUNDS_S))


def everything() -> State:
    meters = Meters()
    meters.add(Finished(request=None, client="x", model=A, outcome="ok", status=200, first_byte_s=0.1))
    names = ((A, None, Phase.READY), (f"{A}#2", A, Phase.STARTING), (B, None, Phase.ASLEEP))
    return State(
        version="1.2.3", meters=meters.copy(), measures=measures(),
        statuses=[
            ModelStatus(model=name, phase=phase, reason="r", message="m", declared=True, replica_of=first)
            for name, first, phase in names
        ],
        conditions=[Condition(type="ManifestValid", ok=True, reason="", message="")],
        servers=[
            ServerStatus(
                url="http://gpu-1:8081", wrong=None, models=(A,), models_at=1.0, in_flight=1, capacity=4,
                load=EngineLoad(running=1, waiting=0, kv_cache_usage=0.5), load_at=1.0, checked_at=1.0, checks=1,
                failed_checks=0, success_rate=1.0, mean_s=0.1, last_s=0.1,
            )
        ],
        vitals=Vitals(deaths={"loop": 1}),
    )  # fmt: skip
