"""A pull, counted as other requests are, but not timed: an hour of downloading says nothing of how a model answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from vllama.gateway.metrics.finished import CLIENT_GONE, Outcome
from vllama.gateway.metrics.meters import Meters

ENDED: Final = "ended"  # in the state of the request, for the access log


@dataclass(slots=True, kw_only=True)
class Ended:
    """How it ended, so far: its client may leave at any time. `model`: as in Finished; `name`: as it was asked for."""

    name: str
    model: str
    request_bytes: int
    answer_bytes: int = 0
    outcome: Outcome = "client_gone"
    status: int = CLIENT_GONE


@contextmanager
def counted(meters: Meters, ended: Ended) -> Iterator[None]:
    """While it is under way, and then as `ended` says."""
    meters.pulls += 1
    try:
        yield
    except Exception:
        ended.outcome, ended.status = "internal_error", 500
        raise
    finally:
        meters.pulls -= 1
        meter = meters.of[ended.model]
        meter.requests[ended.outcome, ended.status] += 1
        meter.request_bytes += ended.request_bytes
        meter.answer_bytes += ended.answer_bytes
