"""Endpoints that somebody else runs, and how requests are spread over them."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from vllama.controller.manifest.findings import Findings
from vllama.controller.manifest.problems import KeyPath, shown
from vllama.controller.manifest.schema import BalanceKeys, ServerKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """`url` has no slash and no /v1 at its end. `api_key` is what it wants of vllama; `aliases`: (name, its model)."""

    url: str
    max_concurrent_requests: int = 3
    api_key: str | None = field(default=None, repr=False)
    aliases: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceSpec:
    """`recovery_s`: how long a server that failed requests is left alone at most; the first time it is a second."""

    active_health_check: bool = True
    health_check_interval_s: float = 30.0
    health_check_timeout_s: float = 5.0
    max_response_time_s: float = 10.0  # the mean over the window
    min_success_rate: float = 0.8
    window_size: int = 10
    consecutive_failures: int = 3  # of health checks
    failure_threshold: int = 2  # of requests
    max_retries: int = 3
    request_timeout_s: float | None = None  # of silence: before the first byte of an answer, and after any
    recovery_s: float = 60.0
    queue: int = 1000  # requests that wait for a model which only servers have
    queue_timeout_s: float = 600.0


def read_servers(data: Any, findings: Findings) -> tuple[ServerSpec, ...]:
    if data is None:
        return ()
    if not isinstance(data, list):
        findings.add(
            ("servers",), f"{shown(data)} is not a list; write for example [{{url: http://gpu-server-1:8081}}]"
        )
        return ()
    servers: dict[str, ServerSpec] = {}
    for number, item in enumerate(data):
        server = _server(item, ("servers", number), findings)
        if server is not None and servers.setdefault(server.url, server) is not server:
            findings.add(("servers", number, "url"), f"{shown(server.url)} is listed twice")
    return tuple(servers.values())


def _server(item: Any, path: KeyPath, findings: Findings) -> ServerSpec | None:
    said = findings.mapping(item, path)
    keys = findings.validated(ServerKeys, said, lambda loc: (*path, *loc)) if said else None
    if keys is None:
        return None
    said_so = keys.model_dump(exclude={"url", "aliases"}, exclude_none=True)
    return ServerSpec(url=keys.url, aliases=tuple((keys.aliases or {}).items()), **said_so)


def check_aliases(servers: tuple[ServerSpec, ...], local: Collection[str], findings: Findings) -> None:
    """`local`: the names of all models here. Several servers may have one alias, if they mean the same model."""
    meant: dict[str, str] = {}
    for number, server in enumerate(servers):
        for alias, model in server.aliases:
            at = ("servers", number, "aliases", alias)
            if alias in local:
                findings.add(at[:-1], f"{shown(alias)} is already a name of a model here", at=at)
            elif meant.setdefault(alias, model) != model:
                findings.add(at[:-1], f"{shown(alias)} is already the name of {shown(meant[alias])}", at=at)


def read_balance(data: Any, findings: Findings) -> BalanceSpec:
    keys = findings.validated(BalanceKeys, findings.mapping(data, ("balance",)), lambda loc: ("balance", *loc))
    said = {} if keys is None else keys.model_dump(exclude={"config_reload_interval"}, exclude_none=True)
    return BalanceSpec(**{_FIELDS[name]: value for name, value in said.items()})


def balance_keys(balance: BalanceSpec) -> dict[str, float | None]:
    """By the keys of models.yaml; durations in seconds."""
    return {key: getattr(balance, name) for key, name in _FIELDS.items()}


_FIELDS = {
    "enable_active_health_check": "active_health_check",
    "health_check_interval": "health_check_interval_s",
    "health_check_timeout": "health_check_timeout_s",
    "health_check_max_response_time": "max_response_time_s",
    "health_check_min_success_rate": "min_success_rate",
    "health_check_window_size": "window_size",
    "health_check_consecutive_failures": "consecutive_failures",
    "failure_threshold": "failure_threshold",
    "max_retries": "max_retries",
    "request_timeout": "request_timeout_s",
    "auto_recovery_threshold": "recovery_s",
    "queue": "queue",
    "queue_timeout": "queue_timeout_s",
}
