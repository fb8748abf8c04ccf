"""What operators asked for: overrides, kept until they are fulfilled, beaten by newer demand, or withdrawn."""

from collections.abc import Iterable, Mapping

from vllama.controller.board import Board
from vllama.domain.decision import Plan
from vllama.domain.demand import Override, WantAsleep, WantReady, WantStopped
from vllama.domain.observed import Awake, EngineObservation, Operation, Verb
from vllama.domain.reason import Reason
from vllama.domain.spec import ModelSpec

_WILL_NOT_BE = frozenset({Reason.CANNOT_FIT, Reason.NO_SUCH_DEVICE, Reason.NO_SUCH_NODE, Reason.WOULD_EVICT})


class Wishes:
    """They die with the manager."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.overrides: dict[str, Override] = {}

    def wish(self, model: str, override: Override) -> None:
        self.overrides[model] = override

    def failed(self, model: str) -> None:
        """A start counts as one request, and that one was answered: by a failure."""
        if isinstance(self.overrides.get(model), WantReady):
            del self.overrides[model]

    def review(
        self,
        engines: Mapping[str, EngineObservation],
        models: Mapping[str, ModelSpec],
        plan: Plan,
        operations: Iterable[Operation] = (),
    ) -> None:
        """Drop what is done or overtaken. A fulfilled start counts as a use of the model at that moment.

        `engines` and `models` are by replica: one that is ready is the model's readiness. An engine that goes down
        fulfils nothing, however awake it still is.
        """
        leaving = {each.engine_id for each in operations if each.verb in {Verb.SLEEP, Verb.STOP}}
        refused = {decision.model for decision in plan.decisions if decision.reason in _WILL_NOT_BE}
        awake: dict[str, float] = {}
        for name, engine in engines.items():
            if isinstance(engine.state, Awake) and engine.engine_id not in leaving:
                served = models[name].served_name if name in models else name
                awake[served] = max(engine.state.ready_at, awake.get(served, 0.0))
        for model, override in list(self.overrides.items()):
            match override:
                case WantReady(at=at):
                    if model in awake:
                        self._board.touch(model, max(at, awake[model]))
                        del self.overrides[model]
                    elif model in refused:
                        del self.overrides[model]
                case WantStopped(at=at) | WantAsleep(at=at):
                    spec, since = models.get(model), self._board.demand_of(model).oldest_waiting_at
                    if since is not None and since > at and not (spec and spec.pin):
                        del self.overrides[model]
