"""The gateway, served by a real uvicorn, before a real upstream, with the real board and a Control of plain lists."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvicorn
import uvloop

from tests.gateway.upstream import Upstream, upstream
from tests.planner.cluster import Cluster
from tests.waiting import async_wait_until
from vllama.controller.board import Board
from vllama.controller.card import Command, Failures, ModelCard, Running
from vllama.controller.condition import Condition
from vllama.controller.control import EngineAddress, Unresolved, WishVerb
from vllama.controller.demand import Endpoint
from vllama.controller.describe import Description, demand_state, engine_state, gathered
from vllama.controller.events import Event, Events
from vllama.controller.figures import Figures, Source
from vllama.controller.history import History
from vllama.controller.manifest.effective import effective
from vllama.controller.measures import Measures
from vllama.controller.nodes import NodeStatus, node_statuses
from vllama.controller.servers.status import ServerStatus, statuses_of
from vllama.controller.vitals import Vitals
from vllama.controller.why import Why, why
from vllama.domain.decision import Plan
from vllama.domain.demand import WantAsleep, WantReady, WantStopped
from vllama.domain.spec import ModelSpec, Policy, SleepLevel
from vllama.domain.status import ModelStatus, Phase
from vllama.engine.client import EngineClient
from vllama.engine.logs import LogMark, LogPart, read_part, read_tail
from vllama.gateway.access.log import AccessLog
from vllama.gateway.app import create_app
from vllama.gateway.cors import Origins
from vllama.gateway.guard import Guard
from vllama.gateway.info import ServerFacts
from vllama.gateway.recording import Recording
from vllama.gateway.telling import Telling
from vllama.gateway.wire.limits import Limits
from vllama.gateway.wire.server import DataPath
from vllama.planner.books import Books, books_of
from vllama.planner.outlook import Outlook
from vllama.planner.rehearse import Rehearsal, rehearse, rehearse_wish
from vllama.planner.together import Matrix, matrix_of
from vllama.runtime.base import LOCAL, LogFile

T = TypeVar("T")
MODEL = "org/Tiny-1B"
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # certificates take longer to read than most tests here
SPEC = ModelSpec(model=MODEL, aliases=("tiny", "small one"))
LIMITS = Limits(at_once_s=0)  # writes at the end of a turn are what could go wrong
POLICY = Policy()
FACTS = ServerFacts(
    host="127.0.0.1", port=1, started_at=1.75e9, config_dir="/c", models_yaml="/c/models.yaml", logs="/c/logs",
    model_cache="/hub", engine_ports=(33300, 34299), runs_on="GPUs 0", simulated=False,
)  # fmt: skip
CHAT = "/v1/chat/completions"


@dataclass
class ListedControl:
    """What the gateway may ask of a controller, from lists; what was asked of it is written down."""

    specs: list[ModelSpec]
    board: Board = field(default_factory=lambda: Board(clock=time.monotonic, bell=lambda: None))
    policy: Policy = field(default_factory=Policy)
    wrong: list[Condition] = field(default_factory=list)
    alive: Vitals = field(default_factory=Vitals)
    plan: Plan = field(default_factory=lambda: Plan(generation=7, snapshot_at=12.5, decisions=()))
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    cluster: Cluster = field(default_factory=lambda: Cluster().model(MODEL, 5.0).model("org/b", 4.0))
    known_tasks: dict[str, frozenset[str]] = field(default_factory=dict)
    events: Events = field(default_factory=Events)
    history: History = field(default_factory=History)
    logs: Path = Path("/nowhere")
    looked: int = 1
    ready_in: dict[str, Outlook] = field(default_factory=dict)
    phase: Phase = Phase.STOPPED  # of who is not ready
    offline: bool = False
    gone: set[str] = field(default_factory=set)  # engines
    addresses: list[EngineAddress] = field(default_factory=list)

    @property
    def revision(self) -> int:
        return hash((tuple(self.specs), frozenset(self.known_tasks.items())))

    def tasks(self, model: str) -> frozenset[str] | None:
        return self.known_tasks.get(model)

    def resolve(self, name: str) -> ModelSpec | Unresolved:
        for spec in self.specs:
            if name == spec.model or name in spec.aliases or spec.has_adapter(name):
                return spec
        return Unresolved(name=name, ambiguous=False, candidates=(MODEL,))

    def resolve_here(self, name: str) -> ModelSpec | Unresolved:
        return self.resolve(name)

    def servers(self) -> Sequence[ServerStatus]:
        return statuses_of(self.board.servers.servers.values(), wall_minus_clock=time.time() - time.monotonic())

    def has_engine(self, engine_id: str) -> bool:
        return engine_id not in self.gone

    def engines(self) -> Sequence[EngineAddress]:
        return self.addresses

    def statuses(self) -> Sequence[ModelStatus]:
        return [
            ModelStatus(
                model=spec.model,
                phase=Phase.READY if self.board.is_open(spec.model) else self.phase,
                reason="NotWanted",
                message="as the list says",
                declared=True,
                aliases=spec.aliases,
                adapters=tuple(adapter for adapter, _ in spec.lora),
            )
            for spec in self.specs
        ]

    def conditions(self) -> Sequence[Condition]:
        return [Condition(type="LoopRuns", ok=True, reason="Passed", message="just now"), *self.wrong]

    def vitals(self) -> Vitals:
        return self.alive

    async def plans(self, *, settle: bool) -> Sequence[Plan]:
        return [self.plan, self.plan] if settle else [self.plan]

    async def rehearse(self, models: Sequence[str]) -> Rehearsal:
        self.asked.append(("rehearse", *models))
        return rehearse(*self.cluster.states(), self.cluster.now, models)

    async def rehearse_wish(self, model: str, verb: WishVerb, level: SleepLevel | None) -> Rehearsal:
        self.asked.append(("rehearse", verb, model, level))
        wish = {"start": WantReady(at=self.cluster.now), "stop": WantStopped(at=self.cluster.now)}
        wished = wish.get(verb, WantAsleep(at=self.cluster.now, level=level))
        return rehearse_wish(*self.cluster.states(), self.cluster.now, model, wished)

    def outlooks(self) -> Mapping[str, Outlook]:
        return self.ready_in

    async def matrix(self) -> Matrix:
        return matrix_of(*self.cluster.states(), self.cluster.now)

    async def measures(self) -> Measures:
        return Measures()

    def nodes(self) -> Sequence[NodeStatus]:
        return node_statuses(self.cluster.states()[1], read_at=self.cluster.now, wall_minus_clock=1.75e9)

    def memory(self) -> Books:
        return books_of(*self.cluster.states())

    def figures(self) -> Sequence[Figures]:
        return [Figures(model=spec.model, awake_bytes=7, sources={"awake_bytes": Source.LOG}) for spec in self.specs]

    async def show(self, spec: ModelSpec) -> ModelCard:
        return ModelCard(
            status=next(status for status in self.statuses() if status.model == spec.model), settings=effective(spec),
            figures=Figures(model=spec.model), levels=(), tasks=("generate",), command=Command(env=(("A", "b"),)),
            log="/x.log", lately=(Event(at=1.75e9, model=spec.model, reason="Idle", message="m"),),
            engine=Running(
                engine_id="e1", node="here", devices=(0,), pid=1, port=2, started_at=1.75e9, current=True,
                memory_bytes=3, measured_bytes=None, host_copy_bytes=0,
            ),
            failures=Failures(count=1, last_at=1.75e9, cause="c", retry_in_s=None),
        )  # fmt: skip

    async def describe(self, spec: ModelSpec) -> Description:
        status = next(status for status in self.statuses() if status.model == spec.model)
        return Description(
            card=await self.show(spec), demand=demand_state(self.cluster.states()[0], [status], spec.model, 0.0),
            engines=(engine_state(status, self.history.changes_of(spec.model), None),),
            events=gathered(self.events, spec.model),
        )  # fmt: skip

    async def why(self, spec: ModelSpec) -> Sequence[Why]:
        self.asked.append(("why", spec.model))
        desired, snapshot = self.cluster.states()
        return why(desired, snapshot, self.cluster.now, [spec.model], [self.history.decisions_of(spec.model)])

    def defaults(self) -> ModelSpec:
        return ModelSpec(model="", declared=False)

    def log_of(self, model: str, replica: int = 1) -> LogFile:
        return LogFile(node=LOCAL, path=self.logs / f"{model.replace('/', '_')}-{replica}.log")

    async def read_log(self, log: LogFile, after: LogMark) -> LogPart:
        return read_part(log.path, after)

    async def log_tail(self, log: LogFile, *, limit_bytes: int) -> tuple[str, ...]:
        return read_tail(log.path, limit_bytes=limit_bytes)

    async def rescan(self) -> None:
        self.asked.append(("rescan",))

    def start(self, model: str) -> None:
        self.asked.append(("start", model))

    def stop(self, model: str) -> None:
        self.asked.append(("stop", model))

    def sleep(self, model: str, level: SleepLevel | None) -> None:
        self.asked.append(("sleep", model, level))


@dataclass
class House:
    control: ListedControl
    upstream: Upstream
    http: httpx.AsyncClient
    port: int
    server: uvicorn.Server
    telling: Telling
    tls: ssl.SSLContext | None = None  # what clients trust

    def stop_listening(self) -> None:
        """What uvicorn does first when it stops."""
        for connection in list(self.server.server_state.connections):
            connection.shutdown()

    def open(self, *, served: str = MODEL, max_concurrency: int | None = None, engine_id: str = "e1") -> None:
        endpoint = Endpoint(engine_id=engine_id, host="127.0.0.1", port=self.upstream.port, served_name=served)
        self.control.board.open(MODEL, endpoint, max_concurrency=max_concurrency)

    @property
    def in_flight(self) -> int:
        return self.control.board.demand()[MODEL].in_flight

    @property
    def waiting(self) -> int:
        demand = self.control.board.demand().get(MODEL)
        return demand.waiting if demand is not None else 0

    async def chat(self, body: object = None, **kwargs: Any) -> httpx.Response:
        return await self.http.post(CHAT, json={"model": MODEL} if body is None else body, **kwargs)

    async def raw(self, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of its own, with `request` written to it."""
        name = None if self.tls is None else "localhost"
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls, server_hostname=name)
        writer.write(request)
        await writer.drain()
        return reader, writer


def post(body: bytes, *, target: str = CHAT, headers: str = "connection: close\r\n") -> bytes:
    return f"POST {target} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {len(body)}\r\n\r\n".encode() + body


async def until(condition: Callable[[], T], what: str = "it") -> T:
    async def asked() -> T:
        return condition()

    return await async_wait_until(asked, what=what)


def live(test: Callable[[House], Coroutine[Any, Any, None]], *specs: ModelSpec, **doors: Any) -> None:
    """Runs `test` in a house whose models are `specs`; afterwards nothing may wait or be in flight."""

    async def run() -> None:
        async with house(*specs, **doors) as here:
            await test(here)
            for model, demand in here.control.board.demand().items():
                await until(lambda m=model: here.control.board.demand()[m].in_flight == 0, f"{model} in flight")
                assert demand.waiting == 0

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the loop that uvicorn takes
        runner.run(run())


@asynccontextmanager
async def house(
    *specs: ModelSpec,
    limits: Limits = LIMITS,
    policy: Policy = POLICY,
    guard: Guard | None = None,
    origins: Origins | None = None,
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
    log: Callable[[Guard], AccessLog] | None = None,
    recording: Recording | None = None,
    metrics_within_s: float = 2.0,
    hub: Path | None = None,
) -> AsyncIterator[House]:
    """`tls`: the server's side and the clients'."""
    control = ListedControl(specs=list(specs) or [SPEC], policy=policy)
    guard = guard or Guard()
    to_engines = httpx.AsyncClient(trust_env=False, verify=NO_TLS)
    telling = Telling(
        client=EngineClient(to_engines), access_log=None if log is None else log(guard),
        metrics_within_s=metrics_within_s, recording=recording,
    )  # fmt: skip
    data_path = DataPath(
        control, finished=telling.finished, limits=limits, keyring=guard.keyring, origins=origins
    )  # fmt: skip
    config = uvicorn.Config(
        create_app(control, version="1.2.3", telling=telling, guard=guard, facts=FACTS, hub=hub),
        http=data_path.protocol,
        log_config=None, access_log=False, proxy_headers=False, server_header=False, date_header=False,
        timeout_graceful_shutdown=5,
    )  # fmt: skip
    config.load()
    config.ssl, trust = tls or (None, None)
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        async with upstream() as up:
            await server.startup(sockets=[listening])
            base_url = f"http://127.0.0.1:{port}" if trust is None else f"https://localhost:{port}"
            verify = trust or NO_TLS
            try:
                async with httpx.AsyncClient(base_url=base_url, trust_env=False, timeout=20, verify=verify) as http:
                    yield House(control, up, http, port, server, telling, trust)
                await until(lambda: not server.server_state.connections, "every client away")
            finally:
                await server.shutdown(sockets=[listening])
                data_path.close()
                await to_engines.aclose()
