"""The plan whose reasons people are shown. The loop's own may be seconds old, and a request is over sooner."""

from collections.abc import Callable, Mapping

from vllama.domain.decision import Plan
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Snapshot
from vllama.planner import plan

HOLDS_S = 0.5
PART_OF_TIME = 0.05  # that plans for people's eyes may take, where there are so many models that one takes long

Asked = Mapping[str, tuple[int, int, int]]


class Reasons:
    """What the last pass decided; once demand has changed since, what the next one would, made anew now and then."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._latest: tuple[Plan, Asked] | None = None
        self._holds_until = 0.0

    def passed(self, made: Plan, desired: DesiredState) -> None:
        self._latest = made, _asked(desired)

    def plan(self, desired: DesiredState, snapshot: Snapshot) -> Plan | None:
        """None: no pass was made yet."""
        if self._latest is None:
            return None
        made, was = self._latest
        now, asked = self._clock(), _asked(desired)
        if asked == was or now < self._holds_until:
            return made
        try:
            self._latest = plan(desired, snapshot, snapshot.taken_at), asked
        except Exception:  # noqa: BLE001  # the next pass fails like this, and says so; people still see the last one
            return made
        finally:
            ended = self._clock()
            self._holds_until = ended + max(HOLDS_S, (ended - now) / PART_OF_TIME)
        return self._latest[0]


def _asked(desired: DesiredState) -> Asked:
    """What of demand is told in numbers."""
    counts = ((model, (each.waiting, each.expected, each.in_flight)) for model, each in desired.demand.items())
    return {model: count for model, count in counts if any(count)}
