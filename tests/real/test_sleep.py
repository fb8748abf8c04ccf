"""Sleeping, waking and learning on a real engine, by vllama's own code and vLLM's own routes.

On a CPU sleeping frees nothing, so no plan ever sleeps there. Here it is done all the same: with devices that tell
nothing it must be carried out and verified as on a GPU, and with devices that tell the truth it must be found out.
"""

import asyncio
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from tests.waiting import async_wait_until
from vllama.controller.events import Events
from vllama.controller.observer import Observer
from vllama.controller.probe import Probe
from vllama.controller.profiles import Profiles
from vllama.controller.sleep import Untrue, VerifiedSleep
from vllama.domain.action import Sleep, Start, Wake
from vllama.domain.observed import Asleep, Awake
from vllama.domain.spec import LaunchSpec, ModelSpec, SleepLevel
from vllama.domain.units import GIB, MIB
from vllama.engine.address import Address
from vllama.engine.client import EngineClient
from vllama.engine.platform import Platform
from vllama.runtime import clock
from vllama.runtime.base import LOCAL as NODE
from vllama.runtime.base import Reading
from vllama.runtime.local.host import HostMemory
from vllama.runtime.local.launcher import VllmLauncher
from vllama.runtime.local.runtime import LocalRuntime

KV_BYTES = 256 * MIB
READY_WITHIN_S = 400
WITHIN_S = 60.0
SPEC = ModelSpec(
    model="tiny/chat", memory_bytes=3 * GIB,
    launch=LaunchSpec(
        settings=(("enforce_eager", True), ("max_model_len", 512)),
        extra_args=(("distributed-executor-backend", "uni"),), env=(("VLLM_ENABLE_V1_MULTIPROCESSING", "0"),),
    ),
)  # fmt: skip
START = Start(
    model=SPEC.model, spec_hash=SPEC.spec_hash, node=NODE, devices=(0,), memory_bytes=3 * GIB,
    gpu_memory_utilization=0.1, kv_cache_bytes=KV_BYTES,
)  # fmt: skip


class MuteHost(HostMemory):
    """Tells what the host has, and nothing of what is used: as a driver that cannot be asked."""

    mute = True

    def read(self, sessions) -> Reading:
        told = super().read(sessions)
        if not self.mute:
            return told
        (node,) = told.nodes
        devices = tuple(replace(device, used_bytes=None) for device in node.devices)
        return Reading(nodes=(replace(node, devices=devices),))


@dataclass
class House:
    """All of the controller that sleeps and wakes, and one engine."""

    devices: MuteHost
    observer: Observer
    profiles: Profiles
    client: EngineClient
    sleeps: VerifiedSleep
    runtime: LocalRuntime
    probe: Probe

    @property
    def at(self) -> Address:
        return self.probe.engine.address

    def log(self) -> str:
        return self.probe.engine.log.read_text(errors="replace")

    async def put_to_sleep(self, level: SleepLevel) -> None:
        engine_id, footprint = self.probe.engine.engine_id, await self.runtime.footprint(SPEC)
        action = Sleep(model=SPEC.model, engine_id=engine_id, node=NODE, devices=(0,), level=level)
        await self.sleeps.put_to_sleep(action, SPEC, footprint, within_s=WITHIN_S)

    async def wake(self, level: SleepLevel) -> None:
        engine_id = self.probe.engine.engine_id
        action = Wake(model=SPEC.model, engine_id=engine_id, node=NODE, devices=(0,), level=level)
        await self.sleeps.wake(action, SPEC, within_s=WITHIN_S)

    async def found_by_another(self) -> object:
        """What a manager that knows nothing of this engine takes it for."""
        stranger = Probe(
            engine=self.probe.engine, runtime=self.runtime, client=self.client, clock=clock.now, bell=lambda: None
        )
        await stranger._ask_loading()
        return stranger.state


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """The one event loop of these tests: the engine is watched in all of them."""
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def house(real_vllm, runner, tmp_path_factory) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("sleep")
    environ = dict(os.environ) | {
        "VLLAMA_VLLM": str(real_vllm.vllm), "HF_HOME": str(real_vllm.hf_home), "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    made = runner.run(_open(directory, environ))
    try:
        yield made
    finally:
        runner.run(_close(made))


async def _open(directory: Path, environ: dict[str, str]) -> House:
    events, devices = Events(), MuteHost(node=NODE)
    runtime = LocalRuntime(
        owner="tests", logs=directory / "logs", ports=range(34300, 35300), devices=devices,
        launcher=VllmLauncher(platform=Platform.CPU, cache_root=directory / "cache", parent_env=environ),
    )  # fmt: skip
    client = EngineClient(httpx.AsyncClient(trust_env=False))
    profiles = Profiles(directory / "profiles.json", place="here", events=events)
    observer = Observer(
        runtime=runtime, client=client, clock=clock.now, bell=lambda: None, events=events,
        canary_of=profiles.canary_of,
    )  # fmt: skip
    sleeps = VerifiedSleep(client=client, observer=observer, profiles=profiles, events=events, clock=clock.now)
    probe = observer.add(await runtime.start("it", SPEC, START))

    async def ready() -> bool:
        await observer.look()
        return isinstance(probe.state, Awake)

    try:
        await async_wait_until(ready, deadline_s=READY_WITHIN_S, what=f"the engine to be ready ({probe.engine.log})")
    except BaseException:
        await runtime.stop("it", deadline_s=20)
        raise
    return House(
        devices=devices,
        observer=observer,
        profiles=profiles,
        client=client,
        sleeps=sleeps,
        runtime=runtime,
        probe=probe,
    )


async def _close(house: House) -> None:
    await house.observer.close()
    await house.runtime.stop("it", deadline_s=20)
    await house.runtime.close()
    await house.client._http.aclose()


def test_what_it_takes_is_learned_as_its_log_says(house, runner, real_vllm):
    learned, log = house.probe.learned, house.log()
    said = float(re.search(r"Explicitly set \(([\d.]+)/[\d.]+\) GiB for KV cache", log)[1])
    assert learned.kv_cache_bytes == said * GIB == KV_BYTES
    assert learned.load_s == float(re.search(r"Loading weights took ([\d.]+) seconds", log)[1])
    assert learned.init_s == float(re.search(r"init engine .* took ([\d.]+) s", log)[1])
    assert learned.supported_tasks == ("generate",)
    (file,) = (real_vllm.hf_home / "hub" / "models--tiny--chat" / "snapshots").glob("*/model.safetensors")
    content = file.read_bytes()  # 8 bytes of length, a header of that length, and weights in half precision
    weights_bytes = len(content) - 8 - int.from_bytes(content[:8], "little")
    assert runner.run(house.runtime.footprint(SPEC)).weights_bytes == weights_bytes


@pytest.mark.parametrize("level", [SleepLevel.WEIGHTS_OFFLOADED, SleepLevel.DISCARDED])
def test_a_level_and_back_with_the_same_answer(house, runner, level):
    async def there_and_back() -> tuple[object, ...]:
        await house.put_to_sleep(level)
        seen = (
            house.probe.state,
            await house.client.is_sleeping(house.at, timeout_s=WITHIN_S),
            await house.client.sleep_level(house.at, timeout_s=WITHIN_S),
            await house.found_by_another(),
        )
        await house.wake(level)
        return seen, (
            type(house.probe.state),
            await house.client.is_sleeping(house.at, timeout_s=WITHIN_S),
            await house.client.sleep_level(house.at, timeout_s=WITHIN_S),
            type(await house.found_by_another()),
        )

    asleep, awake = runner.run(there_and_back())
    assert asleep == (Asleep(level=level), True, level, Asleep(level=level))
    assert awake == (Awake, False, None, Awake)
    assert house.probe.canary is not None
    assert len(house.probe.canary.text) > 4
    profile = house.profiles.of(SPEC)
    assert profile.refused_levels == ()
    assert 0 < profile.sleep_s < WITHIN_S
    assert 0 < profile.wake_s < WITHIN_S


def test_weights_that_were_not_read_again_are_heard(house, runner, monkeypatch):
    """As if the three steps were one: a CPU keeps its weights all the same, so the answer must be spoilt by hand."""
    spoilt = replace(house.probe.canary, text=house.probe.canary.text[::-1])
    monkeypatch.setattr(house.probe, "canary", spoilt)

    async def there_and_back() -> None:
        await house.put_to_sleep(SleepLevel.DISCARDED)
        await house.wake(SleepLevel.DISCARDED)

    with pytest.raises(Untrue, match="answers otherwise than before it slept at level 2"):
        runner.run(there_and_back())
    assert house.profiles.of(SPEC).refused_levels == (SleepLevel.DISCARDED,)


def test_a_sleep_that_frees_nothing_is_found_out_by_who_can_see_it(house, runner):
    """Last: the engine is broken by it, as far as vllama is concerned."""
    house.devices.mute = False
    with pytest.raises(Untrue, match=r"POST /sleep\?level=1 with 200: and still holds"):
        runner.run(house.put_to_sleep(SleepLevel.WEIGHTS_OFFLOADED))
    assert SleepLevel.WEIGHTS_OFFLOADED in house.profiles.of(SPEC).refused_levels
