"""The planner over a trace of requests, on a virtual clock: what would all who ask have waited, with which policy?

No process, no event loop, no controller: requests come, the planner decides, and each action takes as long as it costs.
"""

from vllama.replay.costs import Costs, ModelCosts
from vllama.replay.result import Result
from vllama.replay.trace import Request, Trace, TraceError
from vllama.replay.world import CannotReplay, simulate

__all__ = ["CannotReplay", "Costs", "ModelCosts", "Request", "Result", "Trace", "TraceError", "simulate"]
