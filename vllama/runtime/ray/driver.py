"""The process that speaks Ray, for the manager, which must not hang or end where Ray does.

    python -m vllama.runtime.ray.driver FD ADDRESS [--insecure]

It reads (number, operation, arguments, seconds) from the socket FD, and writes (number, came out right, what). Numbers
that come again without an operation are given up. It ends when the manager does, or when Ray is gone from this machine.
"""

import asyncio
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from vllama.runtime.ray import cluster, frames
from vllama.runtime.ray.messages import AgentGone, Answer, Call, Unreachable

NODE_EVERY_S = 2.0
GONE_AFTER = 3  # looks in a row
_THREADS = 64  # for agents, which are reached without the head
_HEAD_THREADS = 16  # for questions to the head, which holds each for as long as it is gone


class Driver:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._pool = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="agents")
        self._head_pool = ThreadPoolExecutor(max_workers=_HEAD_THREADS, thread_name_prefix="head")
        self._asked: dict[Any, asyncio.Future[Any]] = {}
        self._agents: dict[str, Any] = {}

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Until the manager is gone."""
        try:
            while True:
                number, operation, arguments, within_s = await frames.read(reader)
                if operation is None:
                    if (task := self._tasks.get(number)) is not None:
                        task.cancel()
                    continue
                work = self._carry_out(number, operation, arguments, within_s)
                self._tasks[number] = asyncio.create_task(work, name=operation)
        except (asyncio.IncompleteReadError, ConnectionError):
            return

    async def _carry_out(self, number: int, operation: str, arguments: tuple[Any, ...], within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                value = await self._do(operation, arguments)
        except TimeoutError:
            self._say(number, failed=Unreachable(f"no answer within {within_s:g} s"))
        except cluster.UNAVAILABLE:
            self._say(number, failed=Unreachable("its agent ended, and is started again"))
        except cluster.GONE:
            self._agents.pop(arguments[0], None)
            self._say(number, failed=AgentGone("its agent has ended"))
        except Exception as error:  # noqa: BLE001  # whatever Ray raises is an answer, too
            self._say(number, failed=Unreachable(_words(error)))
        else:
            self._say(number, value)
        finally:
            self._tasks.pop(number, None)

    async def _do(self, operation: str, arguments: tuple[Any, ...]) -> Any:
        match operation:
            case "ping":
                return None
            case "call":
                return await self._call(*arguments)
            case "attach" | "let_go":
                name = arguments[0].name if operation == "attach" else arguments[0]
                self._agents.pop(name, None)
                return await self._of_head((operation, arguments[0]), partial(getattr(cluster, operation), *arguments))
            case "nodes":
                return await self._of_head(operation, cluster.nodes)
            case _:
                raise ValueError(f"{operation} is nothing that the driver does")

    async def _call(self, name: str, call: Call) -> Answer:
        if name not in self._agents:
            self._agents[name] = await self._in_thread(partial(cluster.agent_of, name))
        under_way = await self._in_thread(partial(cluster.begin_call, self._agents[name], call))
        try:
            answer: Answer = await under_way
        except asyncio.CancelledError:
            self._pool.submit(cluster.cancel, under_way)
            raise
        return answer

    async def _in_thread(self, work: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _of_head(self, question: Any, work: Any) -> Any:
        """A question that is still under way is not asked again: its answer is that of whoever asks now, too."""
        under_way = self._asked.get(question)
        if under_way is None:
            under_way = asyncio.get_running_loop().run_in_executor(self._head_pool, work)
            self._asked[question] = under_way
            under_way.add_done_callback(lambda _: self._asked.pop(question, None))
        return await asyncio.shield(under_way)

    def _say(self, number: int, value: Any = None, *, failed: Unreachable | None = None) -> None:
        if not self._writer.is_closing():
            frames.write(self._writer, (number, failed is None, value if failed is None else failed))

    async def watch_over_ray(self) -> None:
        """Returns when Ray's own process on this machine is gone: this one would never find another."""
        gone = 0
        while gone < GONE_AFTER:
            await asyncio.sleep(NODE_EVERY_S)
            try:
                async with asyncio.timeout(NODE_EVERY_S):
                    gone = 0 if await self._of_head("own node", cluster.own_node_lives) else gone + 1
            except TimeoutError:
                continue  # the head is gone; agents may answer all the same


def _words(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if "ray::" in lines[0] else lines[0]


async def main(fd: int, address: str, *, insecure: bool) -> None:
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=fd))
    driver = Driver(writer)
    try:
        await asyncio.to_thread(cluster.connect, address, insecure=insecure)
    except Exception as error:  # noqa: BLE001  # a person must read why
        frames.write(writer, (0, False, Unreachable(_words(error))))
        await writer.drain()
        cluster.leave()
    frames.write(writer, (0, True, None))
    ends = {asyncio.create_task(driver.serve(reader)), asyncio.create_task(driver.watch_over_ray())}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    cluster.leave()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], insecure="--insecure" in sys.argv))
