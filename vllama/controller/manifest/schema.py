"""vllama's own keys of models.yaml. All are optional; what was not said is told apart from null.

The text below a key is what editors show for it, by way of the JSON Schema.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainValidator

from vllama.controller.manifest import amounts, shapes, values
from vllama.controller.manifest.problems import shown
from vllama.controller.manifest.settings import AnySetting, Count, CountOrNone, Switch, Text, unless_null
from vllama.controller.manifest.shapes import either, shape
from vllama.domain.replicas import MOST_REPLICAS
from vllama.domain.spec import OnConflict, SleepLevel, VictimPolicy

Duration = Annotated[float | None, unless_null(amounts.duration), shape(*shapes.DURATION)]
SomeTime = Annotated[float | None, unless_null(amounts.some_time), shape(*shapes.DURATION)]
DurationOrNever = Annotated[
    float | None, PlainValidator(amounts.duration_or_never), shape(*shapes.DURATION, shapes.NEVER)
]
Level = Annotated[SleepLevel | None, unless_null(amounts.level), shape(shapes.LEVEL)]
Bytes = Annotated[int | None, unless_null(amounts.amount_or_none_at_all), shape(*shapes.AMOUNT, either(0, "0"))]
Variable = Annotated[str | None, unless_null(values.variable), shape(shapes.VARIABLE)]
Credential = Annotated[str | None, unless_null(values.credential), shape(shapes.TEXT)]
Name = Annotated[str, PlainValidator(values.name), shape({"type": "string", "minLength": 1}, null=False)]
FurtherNames = dict[Name, Name] | None
Address = Annotated[str, PlainValidator(values.endpoint), shape(shapes.ADDRESS, null=False)]


def _none_or_count(value: Any) -> int | None:
    return None if value == "none" else values.whole(1)(value)


def _aliases(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{shown(value)} is not a list of names; write for example [small, fast]")  # noqa: TRY004  pydantic takes ValueError
    return tuple(values.name(item) for item in value)


Port = Annotated[int | None, unless_null(values.whole(1, 65535)), shape(*shapes.whole(1, 65535))]
Memory = Annotated[int | None, unless_null(amounts.amount_or_auto), shape(*shapes.AMOUNT, either("auto"))]
Devices = Annotated[tuple[int, ...] | None, unless_null(values.devices), shape(*shapes.DEVICES)]
Node = Annotated[str | None, unless_null(values.name), shape(shapes.TEXT)]
Replicas = Annotated[int | None, unless_null(values.whole(1, MOST_REPLICAS)), shape(*shapes.whole(1, MOST_REPLICAS))]
Aliases = Annotated[tuple[str, ...] | None, unless_null(_aliases), shape(shapes.NAMES)]
Priority = Annotated[
    int | None, unless_null(values.whole(-1_000_000, 1_000_000)), shape(*shapes.whole(-1_000_000, 1_000_000))
]
CountOrAny = Annotated[int | None, unless_null(_none_or_count), shape(*shapes.whole(1), either("none"))]
Victims = Annotated[str | None, unless_null(values.one_of(*VictimPolicy)), shape(either(*VictimPolicy))]
Conflict = Annotated[str | None, unless_null(values.one_of(*OnConflict)), shape(either(*OnConflict))]
Rate = Annotated[float | None, unless_null(values.number(0, 1)), shape(*shapes.number(0, 1))]


class Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class IdleKeys(Keys):
    sleep_after: DurationOrNever = None
    """A model that nobody used for so long goes to sleep, e.g. 30m; or never."""
    level: Level = None
    """1: weights to host memory, 2: weights dropped, 3: stopped, auto: what fits best."""
    stop_after: DurationOrNever = None
    """Unused for so long it stops altogether, e.g. 6h; or never."""


class ModelKeys(Keys):
    extra_args: dict[str, AnySetting] | None = None
    """Any other flag of `vllm serve`: a value, a list, or true for a bare flag."""
    env: dict[str, Variable] | None = None
    """Environment of its engine, beside the server's own."""
    lora: dict[str, Text] | None = None
    """Adapters: the name by which clients call each, and its path or repository."""
    config_file: Text = None
    """A file for vLLM's --config: YAML of flags and their values. All other keys here win over it."""
    vllm: Text = None
    """Which `vllm` runs it. Default: VLLAMA_VLLM, else the one on PATH."""
    path: Text = None
    """A directory with its files, in place of the model cache."""
    port: Port = None
    """A fixed port for its engine. Default: any free one."""
    memory: Memory = None
    """What it takes of each of its GPUs when it is awake, e.g. 24GiB; auto: estimated, then measured."""
    devices: Devices = None
    """The GPUs that it may use; several without tensor_parallel_size: one engine across all of them. Or auto."""
    node: Node = None
    """The only machine of a cluster that it may be on, by its name there; `devices` are its GPUs. Default: any."""
    replicas: Replicas = None
    """Engines of this model beside each other; further ones take free memory only, while it is in use."""
    aliases: Aliases = None
    """Further names that clients may call it by."""
    pin: Switch = None
    """Awake always, and never put aside for another model."""
    auto_start: Switch = None
    """Started when the server starts."""
    priority: Priority = None
    """Who has more waits less for memory."""
    idle: IdleKeys | None = None
    """What becomes of it when nobody uses it."""
    eviction_level: Level = None
    """The sleep level when it makes room for another: auto, 1, 2, or 3 to stop."""
    max_concurrency: CountOrAny = None
    """Requests that its engine is given at once; the others wait. Or none."""
    max_queue: CountOrNone = None
    """Requests that may wait for it; more are answered 429."""
    queue_timeout: Duration = None
    """How long a request may wait for it, e.g. 10m."""
    load_timeout: SomeTime = None
    """A load without a sign of progress for so long has failed, e.g. 10m."""
    stall_timeout: SomeTime = None
    """An engine with requests that moves nothing for so long, by its own metrics, is asked a one-token question; where
    it does not answer that either it is started anew, e.g. 10m."""
    on_conflict: Conflict = None
    """queue: a request waits until others make room; refuse: it is refused at once."""


class PolicyKeys(Keys):
    reserve: Bytes = None
    """Left free of every GPU, e.g. 512MiB."""
    host_memory: Bytes = None
    """Host memory for models that sleep at level 1. Default: half of what the control group allows."""
    only_declared: Switch = None
    """Only models that stand in this file can be called."""
    drain_deadline: Duration = None
    """How long a busy model may be kept from new requests for the sake of another, e.g. 2m."""
    stop_deadline: Duration = None
    """How long an engine that is asked to end may take, before it is killed, e.g. 30s."""
    sleep_deadline: SomeTime = None
    """How long an engine may take to fall asleep before that has failed, e.g. 2m."""
    wake_deadline: SomeTime = None
    """How long an engine may take to wake up before that has failed, e.g. 10m."""
    fairness: Duration = None
    """Who waits longer than this may have a busy model drained, e.g. 30s."""
    ageing: SomeTime = None
    """Waiting so long is worth one step of priority, e.g. 1m."""
    probe_deadline: SomeTime = None
    """An engine whose state is not known for so long has failed, e.g. 1m."""
    probe_interval: SomeTime = None
    """How often an engine on another machine is asked whether it is well, while it takes requests, e.g. 2s."""
    queue_memory: Bytes = None
    """What the bodies of all requests that wait may take together, e.g. 256MiB; more are answered 503."""
    stalled_client: SomeTime = None
    """A client that reads nothing of its answer for so long is given up, e.g. 5m."""
    victims: Victims = None
    """Which of the idle makes room. lru: the least recently used; cost: who is missed least by use, time and memory."""


class ServerKeys(Keys):
    url: Address
    """For example http://gpu-server-1:8081"""
    max_concurrent_requests: Count = None
    """Requests that it is given at once."""
    api_key: Credential = None
    """Its own key, in place of the client's, e.g. ${GPU_SERVER_KEY}."""
    aliases: FurtherNames = None
    """Further names that clients may call its models by: the name, and the model that it means there."""


class BalanceKeys(Keys):
    enable_active_health_check: Switch = None
    """Servers are asked how they are; false: only by requests that fail is a server found unwell."""
    health_check_interval: SomeTime = None
    """How often each server is asked for its health and its models, e.g. 30s."""
    health_check_timeout: SomeTime = None
    """How long it may take to answer that, e.g. 5s."""
    health_check_max_response_time: SomeTime = None
    """The mean of the window above which a server counts as unwell, e.g. 10s."""
    health_check_min_success_rate: Rate = None
    """The share of good checks in the window below which a server counts as unwell."""
    health_check_window_size: Count = None
    """How many of its last checks count."""
    health_check_consecutive_failures: Count = None
    """So many failed checks in a row make a server unwell."""
    failure_threshold: Count = None
    """So many failed requests in a row, and a server is left alone for a while."""
    max_retries: CountOrNone = None
    """How many other servers are asked where one gave no answer at all."""
    request_timeout: SomeTime = None
    """A server that says nothing for so long is given up, e.g. 2m. Default: none is."""
    auto_recovery_threshold: SomeTime = None
    """A server that failed is left alone for a second, then twice as long each time, up to this, e.g. 60s."""
    config_reload_interval: SomeTime = None
    """Taken from older files, and without effect: a change is seen at once."""
    queue: CountOrNone = None
    """Requests that may wait for a model while all its servers are at their capacity; 0: 429 at once."""
    queue_timeout: Duration = None
    """How long they may wait, e.g. 10m."""
