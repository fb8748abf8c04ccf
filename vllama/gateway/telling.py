"""What the gateway tells of itself, for the application and the data path alike."""

from collections.abc import Callable
from dataclasses import dataclass, field

from vllama.engine.client import EngineClient
from vllama.gateway.access.log import AccessLog
from vllama.gateway.metrics.finished import Finished
from vllama.gateway.metrics.meters import Meters
from vllama.gateway.recording import Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """`client` asks engines for their metrics. `access_log` and `recording` None: requests are summed up only."""

    client: EngineClient
    metrics_within_s: float = 2.0
    access_log: AccessLog | None = None
    recording: Recording | None = None
    meters: Meters = field(default_factory=Meters)

    @property
    def finished(self) -> Callable[[Finished], None]:
        """For the data path."""
        told: Callable[[Finished], None] = self.meters.add
        for each in (self.recording, self.access_log):
            if each is not None:
                told = _both(told, each.add)
        return told

    def dropped_lines(self) -> int:
        return 0 if self.access_log is None else self.access_log.dropped


def _both(first: Callable[[Finished], None], second: Callable[[Finished], None]) -> Callable[[Finished], None]:
    def told(one: Finished) -> None:
        first(one)
        second(one)

    return told
