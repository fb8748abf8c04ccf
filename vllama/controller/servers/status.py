"""How a server is, for people and programs."""

from collections.abc import Iterable
from dataclasses import dataclass

from vllama.controller.servers.server import Server
from vllama.engine.load import EngineLoad


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """`wrong`: why it gets no requests, as the end of a sentence; None: it is well. `*_at`: seconds of wall clock."""

    url: str
    wrong: str | None
    models: tuple[str, ...]
    models_at: float | None
    in_flight: int  # requests of ours
    capacity: int
    load: EngineLoad | None  # what it said last; None: it says nothing that vLLM would
    load_at: float | None
    checked_at: float | None
    checks: int
    failed_checks: int  # in a row
    success_rate: float | None
    mean_s: float | None
    last_s: float | None


def statuses_of(servers: Iterable[Server], *, wall_minus_clock: float) -> tuple[ServerStatus, ...]:
    def wall(at: float | None) -> float | None:
        return None if at is None else at + wall_minus_clock

    return tuple(
        ServerStatus(
            url=server.url,
            wrong=server.health.wrong,
            models=server.models,
            models_at=wall(server.models_at),
            in_flight=server.in_flight,
            capacity=server.spec.max_concurrent_requests,
            load=server.load,
            load_at=wall(server.load_at),
            checked_at=wall(server.health.checked_at),
            checks=server.health.checked,
            failed_checks=server.health.failed_checks,
            success_rate=server.health.success_rate,
            mean_s=server.health.mean_s,
            last_s=server.health.checks[-1].took_s if server.health.checks else None,
        )
        for server in servers
    )
