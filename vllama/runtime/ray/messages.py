"""What manager, driver and agents say to each other. Plain data: it is pickled, and read by the same version only."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from vllama.runtime.base import EngineProcess, NoProcess, RuntimeFailed
from vllama.runtime.ray.settings import AgentSettings

NAMESPACE = "vllama"


class Unreachable(RuntimeFailed):
    """A machine, its agent or Ray did not answer: what was asked of it may or may not have been done."""


class AgentGone(Unreachable):
    """It has ended, and Ray does not start it again by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayNode:
    """A machine as Ray tells of it. `ray_id` is another one each time it joins; `gpus`: how many Ray counts there."""

    name: str
    ray_id: str
    address: str
    alive: bool
    gpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Something asked of an agent. `generation`: that of the asking manager; None: it has none yet.

    Verbs are the methods of agent.Duties.
    """

    verb: str
    args: tuple[Any, ...] = ()
    generation: int | None = None
    seen: tuple[str, int] | None = None  # incarnation and version that the asker knows already


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Whose agent it is, and how long ago its manager asked it anything."""

    settings: AgentSettings
    unasked_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an agent has, at `now` of its own clock. `incarnation`: of the agent's process; `version` counts changes."""

    incarnation: str
    version: int
    now: float
    engines: tuple[EngineProcess, ...]


class Failure(enum.Enum):
    FAILED = RuntimeFailed
    NO_PROCESS = NoProcess
    ERROR = ValueError


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`value` of a call that was carried out, or why it was not. `superseded`: a newer manager asks by now."""

    value: Any = None
    report: Report | None = None
    failure: Failure | None = None
    said: str = ""
    superseded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """What came of the wish for an agent. `said`: why there is none yet, for people. `soon`: there will be one."""

    ready: bool
    said: str = ""
    soon: bool = False


class Asks(Protocol):
    """The way to Ray and the agents, as `link` is."""

    said: str

    @property
    def is_up(self) -> bool: ...

    async def open(self) -> None:
        """Unreachable says why not."""
        ...

    async def keep(self) -> None:
        """For ever."""
        ...

    async def ask(self, operation: str, *arguments: Any, within_s: float) -> Any:
        """Unreachable: no answer in time, or none at all, or Ray raised something. AgentGone: that."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded:
    """An engine's answer to what was asked through its agent; `refused`: nobody listens there."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    refused: bool = False
    error: str = ""
