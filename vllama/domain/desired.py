"""The desired state: what the file says, what clients want, what operators asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vllama.domain.demand import NO_DEMAND, Demand, Override
from vllama.domain.spec import ModelSpec, Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredState:
    """`generation` counts applied versions of models.yaml. All maps are by model id."""

    generation: int
    models: Mapping[str, ModelSpec]
    demand: Mapping[str, Demand] = field(default_factory=dict)
    overrides: Mapping[str, Override] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    since: float = 0.0  # when this manager began to want things: the arrival of pins

    def demand_of(self, model: str) -> Demand:
        return self.demand.get(model, NO_DEMAND)
