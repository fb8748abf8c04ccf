"""A cluster without Ray: real agents in this process, reached as the driver reaches them, with whatever can go wrong.

It stands for Ray at the one seam where the manager meets it (`messages.Asks`); what Ray itself does is tried with Ray.
"""

import asyncio
import contextlib
import os
import pickle
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vllama.runtime.local import proc
from vllama.runtime.ray.agent import Agent
from vllama.runtime.ray.messages import Answer, Attached, Call, RayNode, Unreachable
from vllama.runtime.ray.settings import AgentSettings


class MadeUpCluster:
    """`nodes` as Ray tells of them. `silent`: machines whose agents say nothing. `is_up`: Ray can be asked at all."""

    def __init__(self, home: Path, *names: str, environ: Mapping[str, str] | None = None) -> None:
        self.home, self.environ = home, dict(os.environ) | {"VLLAMA_SIM_LOAD_S": "0"} | dict(environ or {})
        self.nodes = {name: _joined(name, "1") for name in names}
        self.agents: dict[str, Agent] = {}
        self._settings: dict[str, AgentSettings] = {}
        self.silent: set[str] = set()
        self.refused: dict[str, str] = {}  # machines whose agents cannot be had, and why
        self.is_up, self.said = True, ""
        self.head_is_gone = False
        self.asked: list[tuple[str, str]] = []

    async def open(self) -> None:
        if not self.is_up:
            raise Unreachable("Ray cannot be joined")

    async def keep(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.is_up, self.said = False, "closed"

    async def ask(self, operation: str, *arguments: Any, within_s: float) -> Any:
        if not self.is_up:
            raise Unreachable("Ray cannot be asked now.")
        try:
            async with asyncio.timeout(within_s):
                value = await self._do(operation, *pickle.loads(pickle.dumps(arguments)))
        except TimeoutError:
            raise Unreachable(f"no answer within {within_s:g} s") from None
        return pickle.loads(pickle.dumps(value))

    async def _do(self, operation: str, *arguments: Any) -> Any:
        match operation:
            case "nodes":
                if self.head_is_gone:
                    await asyncio.Event().wait()
                return list(self.nodes.values())
            case "attach":
                return await self._attach(*arguments)
            case "call":
                return await self._call(*arguments)
            case "let_go":
                await self.end_agent(*arguments)
                return None
        raise AssertionError(operation)

    async def _attach(self, node: RayNode, settings: AgentSettings) -> Attached:
        if node.name in self.refused:
            return Attached(ready=False, said=self.refused[node.name])
        agent = self.agents.get(node.name)
        if agent is not None and (await agent.do(Call(verb="hello"))).value.settings == settings:
            return Attached(ready=True)
        await self.end_agent(node.name)
        self._settings[node.name] = settings
        self.restarts_agent(node.name)
        return Attached(ready=True)

    def restarts_agent(self, name: str) -> None:
        """As Ray does where one crashed."""
        self.agents[name] = Agent(self._settings[name], self.environ | {"HOME": str(self.home / name)})

    async def _call(self, name: str, call: Call) -> Answer:
        self.asked.append((name, call.verb))
        if name in self.silent:
            await asyncio.Event().wait()
        if name not in self.agents:
            raise Unreachable("The actor is unavailable.")
        answer = await self.agents[name].do(call)
        if name in self.silent:  # it heard, and its answer is lost
            await asyncio.Event().wait()
        return answer

    async def end_agent(self, name: str) -> None:
        """As a crash: engines are left as they are."""
        if name in self.agents:
            await self.agents.pop(name).close()

    def dies(self, name: str) -> None:
        """Ray says so; its agent may live all the same."""
        self.nodes[name] = replace(self.nodes[name], alive=False)

    async def returns(self, name: str) -> None:
        """As another node of Ray's, with another agent."""
        await self.end_agent(name)
        self.nodes[name] = _joined(name, f"{self.nodes[name].ray_id}+")

    async def end(self) -> None:
        for name in tuple(self.agents):
            with contextlib.suppress(Exception):
                await self.end_agent(name)


def end_keepers(directory: Path) -> None:
    """Of agents whose homes are below it: they would wait out their grace."""
    for each in proc.processes():
        title = proc.title_of(each.pid)
        if "vllama.runtime.ray.keeper" in title and str(directory) in title:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)


def _joined(name: str, ray_id: str) -> RayNode:
    return RayNode(name=name, ray_id=ray_id, address="127.0.0.1", alive=True, gpus=0)
