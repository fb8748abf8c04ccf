"""vllama's own keys of models.yaml. All are optional; what was not said is told apart from null."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainValidator

from vllama.controller.manifest import amounts, values
from vllama.controller.manifest.problems import shown
from vllama.controller.manifest.settings import AnySetting, Count, CountOrNone, Switch, Text, unless_null
from vllama.domain.spec import OnConflict, SleepLevel

Duration = Annotated[float | None, unless_null(amounts.duration)]
SomeTime = Annotated[float | None, unless_null(amounts.some_time)]
DurationOrNever = Annotated[float | None, PlainValidator(amounts.duration_or_never)]
Level = Annotated[SleepLevel | None, unless_null(amounts.level)]
Bytes = Annotated[int | None, unless_null(amounts.amount_or_none_at_all)]


def _one_replica(value: Any) -> int:
    if values.whole(1)(value) != 1:
        raise ValueError(f"{shown(value)} engines of one model are not possible yet; only 1 is")
    return 1


def _none_or_count(value: Any) -> int | None:
    return None if value == "none" else values.whole(1)(value)


def _aliases(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{shown(value)} is not a list of names; write for example [small, fast]")  # noqa: TRY004  pydantic takes ValueError
    return tuple(values.name(item) for item in value)


class IdleKeys(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    sleep_after: DurationOrNever = None
    level: Level = None
    stop_after: DurationOrNever = None


class ModelKeys(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    extra_args: dict[str, AnySetting] | None = None
    env: dict[str, Annotated[str | None, unless_null(values.variable)]] | None = None
    lora: dict[str, Text] | None = None
    vllm: Text = None
    path: Text = None
    port: Annotated[int | None, unless_null(values.whole(1, 65535))] = None
    memory: Annotated[int | None, unless_null(amounts.amount_or_auto)] = None
    devices: Annotated[tuple[int, ...] | None, unless_null(values.devices)] = None
    replicas: Annotated[int | None, unless_null(_one_replica)] = None
    aliases: Annotated[tuple[str, ...] | None, unless_null(_aliases)] = None
    pin: Switch = None
    auto_start: Switch = None
    priority: Annotated[int | None, unless_null(values.whole(-1_000_000, 1_000_000))] = None
    idle: IdleKeys | None = None
    eviction_level: Level = None
    max_concurrency: Annotated[int | None, unless_null(_none_or_count)] = None
    max_queue: CountOrNone = None
    queue_timeout: Duration = None
    load_timeout: SomeTime = None
    on_conflict: Annotated[str | None, unless_null(values.one_of(*OnConflict))] = None


class PolicyKeys(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    reserve: Bytes = None
    host_memory: Bytes = None
    only_declared: Switch = None
    drain_deadline: Duration = None
    stop_deadline: Duration = None
    sleep_deadline: SomeTime = None
    wake_deadline: SomeTime = None
    fairness: Duration = None
    ageing: SomeTime = None
    probe_deadline: SomeTime = None
    queue_memory: Bytes = None
    stalled_client: SomeTime = None


class ServerKeys(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, PlainValidator(values.endpoint)]
    max_concurrent_requests: Count = None


class BalanceKeys(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    enable_active_health_check: Switch = None
    health_check_interval: SomeTime = None
    health_check_timeout: SomeTime = None
    health_check_max_response_time: SomeTime = None
    health_check_min_success_rate: Annotated[float | None, unless_null(values.number(0, 1))] = None
    health_check_window_size: Count = None
    health_check_consecutive_failures: Count = None
    failure_threshold: Count = None
    max_retries: CountOrNone = None
    request_timeout: SomeTime = None
