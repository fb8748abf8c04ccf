"""The real gateway before an engine on 127.0.0.1:9000, whose one model `bench` is always ready: for load generators.

python -m tests.bench.gateway_app [PORT] [--server]     # 9102 where none is given
--server: to the gateway it is somebody else's server (an entry of `servers:`) instead of an engine of its own
"""

import sys
import time

import uvicorn
import uvloop

from vllama.controller.board import Board
from vllama.controller.control import Condition, Unresolved
from vllama.controller.demand import Endpoint
from vllama.controller.manifest.servers import BalanceSpec, ServerSpec
from vllama.controller.names import Names
from vllama.controller.servers.fleet import Fleet
from vllama.controller.servers.status import ServerStatus
from vllama.domain.decision import Plan
from vllama.domain.spec import ModelSpec, Policy, SleepLevel
from vllama.domain.status import ModelStatus
from vllama.gateway.app import create_app
from vllama.gateway.metrics.meters import Meters
from vllama.gateway.wire.server import DataPath
from vllama.runtime import clock

ENGINE = Endpoint(engine_id="bench-1", host="127.0.0.1", port=9000, served_name="bench")


class OneModel:
    """A Control whose only model is open for ever, on an engine or `on_server`."""

    def __init__(self, *, on_server: bool) -> None:
        self.board = Board(clock=clock.now, bell=lambda: None)
        self.policy = Policy()
        if on_server:
            _enlist(self.board.servers)
        else:
            self.board.open("bench", ENGINE)
        self._names = Names([ModelSpec(model="bench")])

    def tasks(self, model: str) -> frozenset[str] | None:
        return None

    def resolve(self, name: str) -> ModelSpec | Unresolved:
        return self._names.resolve(name)

    resolve_here = resolve

    def servers(self) -> list[ServerStatus]:
        return []

    def has_engine(self, engine_id: str) -> bool:
        return True

    def statuses(self) -> list[ModelStatus]:
        return []

    def conditions(self) -> list[Condition]:
        return []

    def plans(self, *, settle: bool) -> list[Plan]:
        return []

    def start(self, model: str) -> None: ...

    def stop(self, model: str) -> None: ...

    def sleep(self, model: str, level: SleepLevel | None) -> None: ...


def _enlist(fleet: Fleet) -> None:
    spec = ServerSpec(url=f"http://{ENGINE.host}:{ENGINE.port}", max_concurrent_requests=10_000)
    fleet.apply([spec], BalanceSpec(active_health_check=False))
    fleet.found(fleet.servers[spec.url], ("bench",))
    fleet.specs(())


async def serve(port: int, *, on_server: bool) -> None:
    control = OneModel(on_server=on_server)
    config = uvicorn.Config(
        create_app(control, version="bench"), http=DataPath(control, finished=Meters().add).protocol, host="127.0.0.1", port=port,
        proxy_headers=False, server_header=False, date_header=False, access_log=False, log_level="warning",
        backlog=2048, timeout_graceful_shutdown=1,
    )  # fmt: skip
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    print(f"serving since {time.strftime('%H:%M:%S')}", file=sys.stderr)
    ports = [int(word) for word in sys.argv[1:] if word.isdigit()]
    uvloop.run(serve(ports[0] if ports else 9102, on_server="--server" in sys.argv))
