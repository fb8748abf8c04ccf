"""What may be asked of the controller. Reading is free; asking changes only what is desired."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from vllama.controller.board import Board
from vllama.controller.card import ModelCard
from vllama.controller.condition import Condition
from vllama.controller.describe import Description
from vllama.controller.events import Events
from vllama.controller.figures import Figures
from vllama.controller.history import History
from vllama.controller.measures import Measures
from vllama.controller.nodes import NodeStatus
from vllama.controller.servers.status import ServerStatus
from vllama.controller.supposed import Foreseen, Supposed
from vllama.controller.vitals import Vitals
from vllama.controller.why import Why
from vllama.domain.decision import Plan
from vllama.domain.spec import ModelSpec, Policy, SleepLevel
from vllama.domain.status import ModelStatus
from vllama.engine.address import Address
from vllama.engine.logs import LogMark, LogPart
from vllama.planner.books import Books
from vllama.planner.outlook import Outlook
from vllama.planner.rehearse import Rehearsal
from vllama.planner.together import Matrix
from vllama.runtime.base import LogFile

WishVerb = Literal["start", "stop", "sleep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unresolved:
    """A name that is no model's: `candidates` are the models it could mean (ambiguous) or the nearest (unknown)."""

    name: str
    ambiguous: bool
    candidates: tuple[str, ...]
    elsewhere: tuple[str, ...] = ()  # servers that have it, where an engine here was asked for

    @property
    def message(self) -> str:
        if self.elsewhere:
            return f"{self.name!r} is only on {', '.join(self.elsewhere)}: others run that, vllama routes to it."
        if self.ambiguous:
            return f"{self.name!r} could mean {', '.join(self.candidates)}; say which."
        nearest = f" Nearest: {', '.join(self.candidates)}." if self.candidates else ""
        return f"There is no model {self.name!r} in models.yaml or the model cache.{nearest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineAddress:
    """Where an engine that has been ready answers, asleep or awake."""

    model: str
    at: Address


class Control(Protocol):
    """All methods are called on the event loop. They return at once; the coroutines work in a thread meanwhile."""

    board: Board
    events: Events
    history: History
    offline: bool  # the model cache is looked at only when somebody asks

    @property
    def policy(self) -> Policy:
        """That is in force now."""
        ...

    def resolve(self, name: str) -> ModelSpec | Unresolved:
        """Id, alias, adapter, or a short name (the last part of the id) that only one model has; here or on servers."""
        ...

    def resolve_here(self, name: str) -> ModelSpec | Unresolved:
        """The same, of the models that engines here may run; not of those that only servers have."""
        ...

    @property
    def revision(self) -> int:
        """As long as it stays the same, names mean what they meant, and models have the tasks that they had."""
        ...

    @property
    def looked(self) -> int:
        """How often models.yaml and the model cache were looked at: before it grows, the files of no model are new."""
        ...

    def servers(self) -> Sequence[ServerStatus]:
        """Those that requests are routed to, in the order of the file."""
        ...

    def tasks(self, model: str) -> frozenset[str] | None:
        """What vLLM said that this model can do (`generate`, `embed`, ...); None: it was never asked."""
        ...

    def has_engine(self, engine_id: str) -> bool:
        """Whether this very engine is still there, whatever it does."""
        ...

    def engines(self) -> Sequence[EngineAddress]:
        """One for each engine, several of a model with replicas."""
        ...

    def statuses(self) -> Sequence[ModelStatus]:
        """One per model that can be called, sorted by id."""
        ...

    def conditions(self) -> Sequence[Condition]:
        """Manifest, devices, loop."""
        ...

    def vitals(self) -> Vitals:
        """Whether the process lives and is ready."""
        ...

    async def plans(self, *, settle: bool) -> Sequence[Plan]:
        """What the loop would do now, by its own function; `settle`: and then, until nothing is left to do."""
        ...

    async def rehearse(self, models: Sequence[str]) -> Rehearsal:
        """What would happen if somebody called these models (ids) now, in this order."""
        ...

    async def rehearse_wish(self, model: str, verb: WishVerb, level: SleepLevel | None) -> Rehearsal:
        """What `start`, `stop` or `sleep` of the model (its id) would lead to now."""
        ...

    def outlooks(self) -> Mapping[str, Outlook]:
        """Of every model that comes up or is waited for, when it will be ready."""
        ...

    async def matrix(self) -> Matrix:
        """Which models can be awake together."""
        ...

    async def suppose(self, wish: Supposed) -> Foreseen:
        """What would be done if models.yaml said this of the model. Nothing is changed by asking."""
        ...

    def nodes(self) -> Sequence[NodeStatus]:
        """The machines that engines run on, sorted by name."""
        ...

    def memory(self) -> Books:
        """Whose bytes are where, as the planner counts them."""
        ...

    def figures(self) -> Sequence[Figures]:
        """What is known of each model's memory and times, sorted by id."""
        ...

    async def measures(self) -> Measures:
        """What is told at /metrics of the loop, of memory and of models."""
        ...

    async def show(self, spec: ModelSpec) -> ModelCard:
        """All that is known of one model."""
        ...

    async def describe(self, spec: ModelSpec) -> Description:
        """What `show` tells, with the conditions of each engine, the demand, and its events."""
        ...

    async def why(self, spec: ModelSpec) -> Sequence[Why]:
        """Why each of its engines is where it is, the first replica first."""
        ...

    def defaults(self) -> ModelSpec:
        """What holds for a model that models.yaml does not name."""
        ...

    def log_of(self, model: str, replica: int = 1) -> LogFile:
        """The file that a replica's engines of `model` (its id) write to, whether it is there yet or not."""
        ...

    async def read_log(self, log: LogFile, after: LogMark) -> LogPart:
        """As the Runtime's."""
        ...

    async def log_tail(self, log: LogFile, *, limit_bytes: int) -> tuple[str, ...]:
        """As the Runtime's."""
        ...

    async def rescan(self) -> None:
        """Look at models.yaml and the model cache again; what is new there can be called when this returns."""
        ...

    def start(self, model: str) -> None: ...

    def stop(self, model: str) -> None: ...

    def sleep(self, model: str, level: SleepLevel | None) -> None: ...
