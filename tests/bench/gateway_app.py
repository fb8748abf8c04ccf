"""The real gateway before an engine on 127.0.0.1:9000, whose one model `bench` is always ready: for load generators.

python -m tests.bench.gateway_app [PORT]        # 9102 where none is given
"""

import sys
import time

import uvicorn
import uvloop

from vllama.controller.board import Board
from vllama.controller.control import Condition, Unresolved
from vllama.controller.demand import Endpoint
from vllama.controller.names import Names
from vllama.domain.decision import Plan
from vllama.domain.spec import ModelSpec, Policy, SleepLevel
from vllama.domain.status import ModelStatus
from vllama.gateway.app import create_app
from vllama.gateway.wire.server import DataPath
from vllama.runtime import clock

ENGINE = Endpoint(engine_id="bench-1", host="127.0.0.1", port=9000, served_name="bench")


class OneModel:
    """A Control whose only model is open for ever."""

    def __init__(self) -> None:
        self.board = Board(clock=clock.now, bell=lambda: None)
        self.policy = Policy()
        self.board.open("bench", ENGINE)
        self._names = Names([ModelSpec(model="bench")])

    def tasks(self, model: str) -> frozenset[str] | None:
        return None

    def resolve(self, name: str) -> ModelSpec | Unresolved:
        return self._names.resolve(name)

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


async def serve(port: int) -> None:
    control = OneModel()
    config = uvicorn.Config(
        create_app(control, version="bench"), http=DataPath(control).protocol, host="127.0.0.1", port=port,
        proxy_headers=False, server_header=False, date_header=False, access_log=False, log_level="warning",
        backlog=2048, timeout_graceful_shutdown=1,
    )  # fmt: skip
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    print(f"serving since {time.strftime('%H:%M:%S')}", file=sys.stderr)
    uvloop.run(serve(int(sys.argv[1]) if len(sys.argv) > 1 else 9102))
