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
        further = [each.add for each in (self.recording, self.access_log) if each is not None]
        if not further:
            return self.meters.add
        listeners = (self.meters.add, *further)

        def told(one: Finished) -> None:
            for tell in listeners:
                tell(one)

        return told

    def dropped_lines(self) -> int:
        return 0 if self.access_log is None else self.access_log.dropped
