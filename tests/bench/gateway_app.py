"""The real gateway before an engine on 127.0.0.1, whose one model `bench` is always ready: for load generators.

python -m tests.bench.gateway_app [PORT] [--engine-port PORT] [--server] [--access-log]     # 9102, 9000
--server: to the gateway it is somebody else's server (an entry of `servers:`) instead of an engine of its own
"""

import argparse
import sys

import httpx
import uvicorn
import uvloop

from vllama.controller.board import Board
from vllama.controller.condition import Condition
from vllama.controller.control import EngineAddress, Unresolved
from vllama.controller.demand import Endpoint
from vllama.controller.manifest.servers import BalanceSpec, ServerSpec
from vllama.controller.names import Names
from vllama.controller.servers.fleet import Fleet
from vllama.controller.servers.status import ServerStatus
from vllama.domain.decision import Plan
from vllama.domain.spec import ModelSpec, Policy, SleepLevel
from vllama.domain.status import ModelStatus
from vllama.engine.client import EngineClient
from vllama.gateway.access.line import Json, Lines
from vllama.gateway.access.log import AccessLog
from vllama.gateway.access.outlet import Outlet
from vllama.gateway.app import create_app
from vllama.gateway.guard import Guard
from vllama.gateway.telling import Telling
from vllama.gateway.wire.memory import settle
from vllama.gateway.wire.server import DataPath
from vllama.runtime import clock


class OneModel:
    """A Control whose only model is open for ever, on an engine or `on_server`."""

    def __init__(self, engine_port: int, *, on_server: bool = False) -> None:
        self.board = Board(clock=clock.now, bell=lambda: None)
        self.policy = Policy()
        if on_server:
            _enlist(self.board.servers, engine_port)
        else:
            engine = Endpoint(engine_id="bench-1", host="127.0.0.1", port=engine_port, served_name="bench")
            self.board.open("bench", engine)
        self._names = Names([ModelSpec(model="bench")])

    looked = revision = 1

    def tasks(self, model: str) -> frozenset[str] | None:
        return None

    def resolve(self, name: str) -> ModelSpec | Unresolved:
        return self._names.resolve(name)

    resolve_here = resolve

    def servers(self) -> list[ServerStatus]:
        return []

    def has_engine(self, engine_id: str) -> bool:
        return True

    def engines(self) -> list[EngineAddress]:
        return []

    def statuses(self) -> list[ModelStatus]:
        return []

    def conditions(self) -> list[Condition]:
        return []

    def plans(self, *, settle: bool) -> list[Plan]:
        return []

    def start(self, model: str) -> None: ...

    def stop(self, model: str) -> None: ...

    def sleep(self, model: str, level: SleepLevel | None) -> None: ...


def _enlist(fleet: Fleet, port: int) -> None:
    spec = ServerSpec(url=f"http://127.0.0.1:{port}", max_concurrent_requests=10_000)
    fleet.apply([spec], BalanceSpec(active_health_check=False))
    fleet.found(fleet.servers[spec.url], ("bench",))
    fleet.specs(())


async def serve(port: int, control: OneModel, *, access_log: bool) -> None:
    guard = Guard()
    lines = Lines(keyring=guard.keyring, proxies=guard.proxies)
    log = AccessLog(Outlet(sys.stderr.fileno()), Json(), lines) if access_log else None
    telling = Telling(client=EngineClient(httpx.AsyncClient(trust_env=False)), access_log=log)
    data_path = DataPath(control, finished=telling.finished, keyring=guard.keyring)
    config = uvicorn.Config(
        create_app(control, version="bench", telling=telling, guard=guard), http=data_path.protocol, host="127.0.0.1",
        port=port, proxy_headers=False, server_header=False, date_header=False, access_log=False, log_level="warning",
        backlog=2048, timeout_graceful_shutdown=1,
    )  # fmt: skip
    settle()
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int, nargs="?", default=9102)
    parser.add_argument("--engine-port", type=int, default=9000)
    parser.add_argument("--server", action="store_true")
    parser.add_argument("--access-log", action="store_true")
    options = parser.parse_args()
    bench = OneModel(options.engine_port, on_server=options.server)
    uvloop.run(serve(options.port, bench, access_log=options.access_log))
