"""What `vllama serve --runtime ray` was told, and what it tells its agents."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

AUTO = "auto"
SILENCE_S = 3.0
GRACE_S = 60.0

# Of the manager's environment, what holds on every machine that does not say otherwise itself. Nothing secret.
_GIVEN = re.compile(r"VLLAMA_(SIM_\w+|VLLM|VLLM_PORT_(START|END)|TRANSFORMERS_CACHE)|HF_HOME|HF_HUB_OFFLINE")


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySettings:
    """`address`: of the cluster's head, or auto. `insecure`: also one that everybody may join.

    `silence_s`: an agent that says nothing for longer has its machine lost. `grace_s`: so long may engines go on
    without their agent. Logs of engines are kept as the manager's.
    """

    address: str = AUTO
    insecure: bool = False
    silence_s: float = SILENCE_S
    grace_s: float = GRACE_S
    log_max_bytes: int = 10 << 20
    log_backups: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """All that an agent must know; another one takes its place where these differ. `environ`: see `given`."""

    owner: str
    node: str
    ray_node: str
    address: str
    version: str
    simulate: str | None
    ports: tuple[int, int]
    grace_s: float
    log_max_bytes: int
    log_backups: int
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def engine_owner(self) -> str:
        """Whose engines they are: of this manager on this machine, also where machines share a home directory."""
        return hashlib.sha256(f"{self.owner}:{self.node}".encode()).hexdigest()[:16]


def given(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if _GIVEN.fullmatch(name)}
