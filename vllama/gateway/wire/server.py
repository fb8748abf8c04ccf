"""The data path as uvicorn takes it: `uvicorn.Config(app, http=data_path.protocol)`."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from vllama.controller.control import Control
from vllama.gateway.cors import Origins
from vllama.gateway.finder import Finder
from vllama.gateway.keys.ring import Keyring
from vllama.gateway.makers import Makers
from vllama.gateway.metrics.finished import Finished
from vllama.gateway.wire.background import Background
from vllama.gateway.wire.connection import Connection
from vllama.gateway.wire.limits import Limits
from vllama.gateway.wire.outbox import Outbox
from vllama.gateway.wire.pool import Pool
from vllama.gateway.wire.shared import Shared
from vllama.gateway.wire.uploads import Uploads
from vllama.gateway.wire.watch import Watch


class DataPath:
    """Made on the loop that serves."""

    def __init__(
        self,
        control: Control,
        *,
        finished: Callable[[Finished], None],
        limits: Limits | None = None,
        keyring: Keyring | None = None,
        origins: Origins | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`finished` is told of every request that is over, on the loop; `clock`: its seconds.

        `keyring`: the one of the application's guard. `origins`: whose pages may call; None: nobody's.
        """
        limits = limits or Limits()
        watch = Watch(tick_s=limits.tick_s)
        loop = asyncio.get_running_loop()
        outbox = Outbox(loop, at_once_s=limits.at_once_s)
        pool, makers = Pool(limits=limits, watch=watch, outbox=outbox), Makers(clock=loop.time)
        self._shared = Shared(
            control=control, limits=limits, pool=pool, uploads=Uploads(limits), makers=makers,
            finder=Finder(control, makers), background=Background(pool=pool, limits=limits), tunnels=set(), watch=watch,
            outbox=outbox, loop=loop, keyring=keyring or Keyring(), origins=origins, finished=finished, clock=clock,
        )  # fmt: skip

    @property
    def protocol(self) -> type[asyncio.Protocol]:
        """Called by uvicorn for each connection."""
        shared = self._shared

        def connection(
            config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: object = None
        ) -> Connection:
            return Connection(shared, config, server_state, app_state)

        return cast("type[asyncio.Protocol]", connection)

    def close_tunnels(self) -> None:
        """Websockets have no end of their own that a server which stops could wait for."""
        for tunnel in list(self._shared.tunnels):
            tunnel.go_away()

    def close(self) -> None:
        self._shared.background.close()
        self._shared.pool.close()
        self._shared.watch.close()
