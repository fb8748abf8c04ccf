"""Connections to engines that wait for their next request, and how new ones are made."""

import asyncio
from collections import defaultdict
from dataclasses import replace

from vllama.controller.demand import Endpoint
from vllama.gateway.wire.engine import EngineConnection
from vllama.gateway.wire.far import end_with_its_host
from vllama.gateway.wire.limits import Limits
from vllama.gateway.wire.outbox import Outbox
from vllama.gateway.wire.trust import trust
from vllama.gateway.wire.watch import Watch


class Pool:
    """By engine, not by address: what another engine answered on that port before is none of its connections."""

    def __init__(self, *, limits: Limits, watch: Watch, outbox: Outbox) -> None:
        self._limits = limits
        self._watch = watch
        self._outbox = outbox
        self._loop = asyncio.get_running_loop()
        self._idle: defaultdict[str, list[EngineConnection]] = defaultdict(list)

    def take(self, engine_id: str) -> EngineConnection | None:
        """The one that was used last, since it is the least likely to have been closed meanwhile."""
        idle = self._idle.get(engine_id)
        while idle:
            connection = idle.pop()
            if not connection.transport.is_closing():  # else it is about to be told so
                return connection
        return None

    async def dial(self, endpoint: Endpoint) -> EngineConnection:
        """Raises OSError; TimeoutError is one."""
        limits = self._limits
        if (silence_s := endpoint.silence_s) is not None:
            limits = replace(limits, first_byte_s=silence_s, engine_idle_s=silence_s)
        if endpoint.far:
            limits = replace(limits, connect_s=limits.connect_far_s, pooled_s=limits.pooled_far_s)
        tls = await asyncio.to_thread(trust) if endpoint.tls else None

        def made() -> EngineConnection:
            return EngineConnection(self, endpoint, limits=limits, outbox=self._outbox)

        async with asyncio.timeout(limits.connect_s):
            transport, connection = await self._loop.create_connection(made, endpoint.host, endpoint.port, ssl=tls)
        if endpoint.far:
            end_with_its_host(transport)
        self._watch.add(connection)
        return connection

    def close(self) -> None:
        for idle in list(self._idle.values()):
            for connection in list(idle):
                connection.close()

    # what a connection calls

    def give(self, connection: EngineConnection) -> None:
        """It can be asked again."""
        idle = self._idle[connection.engine_id]
        if len(idle) >= self._limits.pooled:
            connection.close()
            return
        connection.deadline = self._loop.time() + connection.rests_s
        idle.append(connection)

    def forget(self, connection: EngineConnection) -> None:
        """It is closed."""
        self._watch.discard(connection)
        idle = self._idle.get(connection.engine_id)
        if idle is None:
            return
        if connection in idle:
            idle.remove(connection)
        if not idle:
            del self._idle[connection.engine_id]


def why_not(error: OSError) -> str:
    """Why there is no connection, as the end of a sentence."""
    return "it does not take connections" if isinstance(error, TimeoutError) else error.strerror or str(error)
