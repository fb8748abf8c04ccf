"""Responses that go on in the background: each holds the grant of the request that asked for it until it is done.

The request itself is long over, so the engine is asked, now and then. What it does not say is not done.
"""

import asyncio

import msgspec

from vllama.controller.demand import Endpoint, Grant
from vllama.gateway.wire.answer import Answer
from vllama.gateway.wire.limits import Limits
from vllama.gateway.wire.pool import Pool

_UNDER_WAY = ("queued", "in_progress")
_ANSWER_WITHIN_S = 30.0


class Background:
    def __init__(self, *, pool: Pool, limits: Limits) -> None:
        self._pool = pool
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def hold(self, grant: Grant, response_id: str | None) -> None:
        """The grant is released when the response is done, its engine is gone, or `background_s` are over.

        None: at once, as nothing goes on.
        """
        if response_id is None:
            grant.release()
            return
        task = self._loop.create_task(self._hold(grant, response_id), name=f"background {response_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _hold(self, grant: Grant, response_id: str) -> None:
        try:
            async with asyncio.timeout(self._limits.background_s):
                while await self._is_under_way(grant.endpoint, response_id):  # noqa: ASYNC110  # it is far away
                    await asyncio.sleep(self._limits.background_poll_s)
        except TimeoutError:
            pass
        finally:
            grant.release()

    async def _is_under_way(self, endpoint: Endpoint, response_id: str) -> bool:
        question = _Question()
        try:
            engine = await self._pool.dial(endpoint)
        except TimeoutError:
            return True
        except OSError:
            return False  # nobody is there any more
        engine.ask(question, endpoint, b"GET /v1/responses/%b HTTP/1.1\r\n" % response_id.encode(), b"")
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                return await question.under_way
        except TimeoutError:
            return True
        finally:
            if not question.answered_in_full:
                engine.abandon()


class _Question:
    """How a response stands, by the answer to its GET."""

    unchunked = True

    def __init__(self) -> None:
        self.under_way: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.answered_in_full = False
        self._body = bytearray()

    def answered(self, head: Answer, length: int, data: bytes) -> None:  # noqa: ARG002  # as an Asker is told
        self._body += data

    def whole(self, head: Answer, length: int, data: bytes) -> None:
        self.answered(head, length, data)
        self.complete()

    def piece(self, data: bytes) -> None:
        self._body += data

    def complete(self) -> None:
        try:
            status = msgspec.json.decode(self._body, type=_Standing).status
        except (msgspec.DecodeError, UnicodeDecodeError):
            status = None  # an error: it has no such response
        self._say(under_way=status in _UNDER_WAY)

    def broken(self, why: str, *, stale: bool) -> None:  # noqa: ARG002
        self._say(under_way=False)

    def silent(self, limit_s: float) -> None:  # noqa: ARG002
        self._say(under_way=True)

    def _say(self, *, under_way: bool) -> None:
        self.answered_in_full = True
        if not self.under_way.done():
            self.under_way.set_result(under_way)


class _Standing(msgspec.Struct):
    status: str | None = None
