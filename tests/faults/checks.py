"""What must hold after every fault, whatever it was.

1  No process and no device memory is left that vllama does not list.
2  Every client had exactly one answer that is well-formed, or a clean error; no engine was asked twice for one.
3  The other models went on serving (Scene.trouble sees to it while the fault is on).
4  What is wanted is reached again, and no condition is left.
5  Nothing of what was said in names, files or logs became a file elsewhere, or a process.
"""

import asyncio
import re
from pathlib import Path

from tests.faults.clients import NEVER, Kind
from tests.faults.house import VICTIM, House
from tests.faults.rows import Situation
from tests.faults.scene import Scene
from tests.waiting import async_wait_until
from vllama.runtime.local import proc
from vllama.runtime.local.identity import owner_of
from vllama.simulator.changes import Changes

_OURS = re.compile(
    r"models\.yaml(\.[a-z]+)?|server\.pid|serve\.lock|serve\.out|profiles\.json|\.\.data.*|simulated/.*"
    r"|(history\.jsonl|requests\.csv)(\.\d+)?|logs(/[A-Za-z0-9._-]+\.log(\.\d+)?)?|simulated"
)


async def play(situation: Situation, house: House, seed: int) -> Scene:
    """The situation under the common load, and all five checks behind it. AssertionError, pytest's Failed otherwise."""
    scene = Scene(house, seed)
    try:
        async with scene.under_load():
            await scene.others_serve()
            await situation.play(scene)
            await scene.all_answered() if not house.is_up else None
            if house.is_up:
                await scene.restore()
                await asyncio.gather(scene.ask(VICTIM), scene.hurried())
                await scene.others_serve()
                await _converged(scene)
        await scene.all_answered()
        assert scene.troubles, "the situation had no trouble"
        if house.is_up:
            await _idle(scene)
        await asyncio.to_thread(no_escape, house)
        answered_once(scene)
    finally:
        await scene.close()
    if not house.is_up:
        assert strays(house, set()) == []
    return scene


def answered_once(scene: Scene) -> None:
    served = scene.house.times_served()
    most = 2 if scene.asked_again else 1
    doubled = [each for each in scene.outcomes if served[each.request_id] > most]
    unserved = [each for each in scene.outcomes if each.kind is Kind.WHOLE and served[each.request_id] == 0]
    never = [str(each) for each in scene.outcomes if each.kind in NEVER]
    assert not scene.unexpected, "answers that should not be:\n" + "\n".join(scene.unexpected[:10])
    assert (doubled, unserved, never) == ([], [], [])


async def _converged(scene: Scene) -> None:
    wrong: list[str] = []

    async def so() -> bool:
        wrong[:] = await _not_yet(scene)
        return not wrong

    try:
        await async_wait_until(so, deadline_s=60, what="all to be as it should")
    except BaseException as error:
        raise AssertionError(f"after the fault was lifted, still: {wrong}") from error


async def _not_yet(scene: Scene) -> list[str]:
    """What keeps it from being as it should."""
    health = await scene.get("/health")
    wrong = [f"{each['type']}: {each['message']}" for each in health.json()["conditions"] if not each["ok"]]
    models = (await scene.get("/admin/status")).json()["models"]
    wrong += [
        f"{each['model']} is {each['phase']}" for each in models if each["phase"] in {"Failed", "Lost", "Unknown"}
    ]
    (plan,) = (await scene.get("/admin/plan")).json()["plans"]
    wrong += [f"{each['model']}: {each['message']}" for each in plan["decisions"] if each["action"] is not None]
    return wrong + await asyncio.to_thread(strays, scene.house, {each["pid"] for each in models})


async def _idle(scene: Scene) -> None:
    async def so() -> bool:
        models = (await scene.get("/admin/status")).json()["models"]
        return all((each["waiting"], each["in_flight"]) == (0, 0) for each in models)

    await async_wait_until(so, deadline_s=60, what="nothing to be in flight")


def strays(house: House, listed: set[int | None]) -> list[str]:
    """Processes, and claims of device memory, of engines that vllama does not list; and whatever it left undead."""
    engines = {tag.engine_id for pid in listed if pid is not None and (tag := proc.tag_of(pid)) is not None}
    owner, mark = owner_of(house.config_dir), f"VLLAMA_SIM_DEVICES={house.config_dir / 'simulated'}".encode()
    server = house.server.process.pid if house.server is not None and house.is_up else None
    found = []
    for each in proc.processes():
        if each.zombie:
            if each.ppid == server:
                found.append(f"zombie {each.pid}")
            continue
        tag = proc.tag_of(each.pid)
        if tag is not None and tag.owner == owner:
            if tag.engine_id not in engines:
                found.append(f"process {each.pid} of {tag.model}, which is not listed")
        elif each.ppid == server or mark in _environ(each.pid):
            found.append(f"process {each.pid} without a tag: {proc.title_of(each.pid)[:200]}")
    simulated = house.server is not None and house.server.devices.directory.exists()
    for device in house.server.devices.read() if simulated else ():
        for claim in (claim for claim in device.claims if not claim.foreign):
            tag = proc.tag_of(claim.pid)
            if tag is None or tag.engine_id not in engines:
                found.append(f"{claim.memory_bytes} bytes of device {device.index} held by {claim.pid}")
    return found


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def no_escape(house: House) -> None:
    files = [str(path.relative_to(house.config_dir)) for path in house.config_dir.rglob("*")]
    assert [name for name in files if not _OURS.fullmatch(name)] == []
    for name in ("home", "cwd"):
        assert list((house.root / name).iterdir()) == []
    ours = {"config", "home", "cwd", "served", "elsewhere", "bin", "clock"}
    assert {path.name for path in house.root.iterdir()} <= ours
    if house.server is not None:
        assert Changes(house.server.devices).collisions() == ()
    assert "Traceback" not in house.log()
