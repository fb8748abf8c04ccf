"""What vllama needs of its machine, and does not get: device memory, disk, the driver, host memory, a steady clock."""

import asyncio
import contextlib
import copy
import os
import resource
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path

import pynvml
import pytest

from tests.faults import wall_clock
from tests.faults.house import BASE, RIVAL, STEADY, VICTIM, House, kill, stand_in
from tests.faults.rows import row
from tests.faults.scene import CUT_OFF, ENDED, Scene
from tests.waiting import async_wait_until
from vllama.domain.units import GIB
from vllama.runtime.local.runtime import log_name
from vllama.simulator.devices import OutOfMemory

# Device memory


def _take(scene: Scene) -> Callable[[], None]:
    """As much of the victim's device as there is, up to a number that is drawn, for a program of somebody else's."""
    devices = scene.house.up.devices
    for part in (1.0, 0.5, 0.2, 0.05):
        with contextlib.suppress(OutOfMemory):
            devices.claim(0, os.getpid(), int(scene.dice.uniform(3, 7) * part * GIB), foreign=True)
            break
    return lambda: devices.release(0, os.getpid())


@row(29)
async def test_memory_that_others_hold_before_a_start_is_waited_for_or_told(scene: Scene):
    await scene.stop()
    await scene.post(f"/admin/models/{RIVAL}/stop")
    await scene.until_it_is("Stopped", RIVAL)
    async with scene.trouble(_take(scene)):
        clients = scene.ask_many(3, may=ENDED)
        await scene.moment(1.0)
    await asyncio.gather(scene.hurried(), *clients)


@row(29)
async def test_memory_that_others_take_during_a_start_costs_that_start_alone(scene: Scene):
    await scene.stop()
    await scene.configure(VICTIM, env={"VLLAMA_SIM_LOAD_S": "1"})
    clients = scene.ask_many(3, may=ENDED)
    await scene.moment(2.0)
    lift = _take(scene)
    async with scene.trouble(lift):
        await scene.moment(1.0)
    await asyncio.gather(scene.hurried(), *clients)


@row(29)
async def test_memory_that_others_take_before_and_during_a_wake_is_seen(scene: Scene):
    await scene.stop()
    await scene.configure(VICTIM, env={"VLLAMA_SIM_WAKE_S": "0.5"})
    await scene.answer()
    await scene.sleep()
    await scene.until_it_is("Asleep")
    clients = scene.ask_many(3, may=ENDED) if scene.dice.random() < 0.5 else []
    await scene.moment(0.8)
    async with scene.trouble(_take(scene)):
        clients += scene.ask_many(2, may=ENDED)
        await scene.moment(1.0)
    await asyncio.gather(scene.hurried(), *clients)


# Disk


@row(30)
async def test_with_a_full_disk_who_is_served_is_served_on(scene: Scene):
    """Nothing that vllama writes gets onto the disk: logs, measurements, anything."""
    await scene.answer()
    manager = scene.house.up.process.pid
    resource.prlimit(manager, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    def lift() -> None:
        resource.prlimit(manager, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    async with scene.trouble(lift):
        await asyncio.gather(*scene.ask_many(4))
        await scene.sleep()
        await scene.until_it_is("Asleep")
        await asyncio.gather(*scene.ask_many(2))
        await scene.moment()


@row(30)
async def test_an_engine_whose_log_finds_no_room_is_told_or_serves_without(scene: Scene):
    await scene.stop()
    log = scene.house.config_dir / "logs" / log_name(VICTIM)
    log.unlink(missing_ok=True)
    log.symlink_to("/dev/full")
    async with scene.trouble(log.unlink):
        await asyncio.gather(scene.hurried(), *scene.ask_many(3, may=ENDED))
        await scene.stop()


@row(31)
async def test_a_read_only_configuration_directory_stops_nobody_who_is_served(scene: Scene):
    await scene.stop()
    (scene.house.config_dir / "logs" / log_name(VICTIM)).unlink(missing_ok=True)
    protected = [scene.house.config_dir, scene.house.config_dir / "logs"]
    _protect(protected)
    async with scene.trouble(lambda: _open_up(protected)):
        await asyncio.gather(scene.hurried(), *scene.ask_many(3, may=ENDED))
        await scene.moment()


def _protect(directories: list[Path]) -> None:
    for each in directories:
        if os.geteuid():
            each.chmod(stat.S_IRUSR | stat.S_IXUSR)
        elif shutil.which("chattr") is None or subprocess.run(["chattr", "+i", each], check=False).returncode:
            _open_up(directories)
            pytest.skip("nothing is read-only to root here")


def _open_up(directories: list[Path]) -> None:
    for each in directories:
        if os.geteuid():
            each.chmod(stat.S_IRWXU)
        else:
            subprocess.run(["chattr", "-i", each], check=True)


# The driver


@row(32, bent=True, simulate=None)
async def test_a_gpu_that_is_lost_costs_nobody_on_the_others(scene: Scene):
    await _driver(scene, degraded="DevicesSound", gpu=0, fails=pynvml.NVML_ERROR_GPU_IS_LOST)


@row(32, bent=True, simulate=None)
async def test_a_driver_that_fails_stops_no_engine_that_runs(scene: Scene):
    wrong = scene.dice.choice((pynvml.NVML_ERROR_DRIVER_NOT_LOADED, pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH))
    await _driver(scene, degraded="DevicesSound", driver=wrong)


@row(32, bent=True, simulate=None)
async def test_a_driver_that_hangs_holds_nobody_up_but_who_needs_it(scene: Scene):
    await _driver(scene, degraded="DevicesSeen", hangs=True)


@row(32, bent=True, simulate=None)
async def test_a_driver_that_lists_no_processes_is_lived_with(scene: Scene):
    await _driver(scene, degraded="", lists_nothing=True)


async def _driver(scene: Scene, *, degraded: str, **how: object) -> None:
    await scene.answer()
    pid = (await scene.status())["pid"]
    await scene.moment()
    async with scene.trouble(scene.house.bend):
        scene.house.bend(**how)

        async def shows() -> bool:
            return not degraded or not (await scene.conditions())[degraded]

        await async_wait_until(shows, deadline_s=60, what=f"{degraded} to say so")
        await asyncio.gather(*scene.ask_many(4))
        assert (await scene.status())["pid"] == pid
        waiting = scene.ask(RIVAL, may=ENDED)
        await scene.moment()
    await asyncio.gather(waiting, scene.hurried(RIVAL))


@row(32)
async def test_without_a_driver_vllama_says_what_to_do(scene: Scene):
    """Where it was never there: `vllama serve` ends at once, with words."""
    async with scene.trouble():
        alone = House(scene.house.root.parent / f"{scene.house.root.name}-{scene.house.next_id()}")
        alone.config_dir.mkdir()
        program = stand_in(alone.root / "bin")
        done = await asyncio.to_thread(alone.run_once, VLLAMA_VLLM=str(program))
        assert done.returncode == 1
        assert "No NVIDIA GPU can be used" in done.stderr
        assert "Traceback" not in done.stderr


# Host memory


@row(33)
async def test_where_the_host_has_no_room_for_a_sleepers_weights_it_does_not_sleep_with_them(scene: Scene):
    await scene.answer()
    config = copy.deepcopy(BASE)
    config["policy"]["host_memory"] = f"{scene.dice.randint(1, 3)}GiB"
    await scene.apply(config)
    async with scene.trouble():
        await scene.swap()

        async def has_made_room() -> bool:
            status = await scene.status()
            return status["phase"] in {"Asleep", "Stopped"} and status["sleep_level"] != 1

        await async_wait_until(has_made_room, deadline_s=60, what="it to make room otherwise")
        await scene.answer()


@row(33)
async def test_a_core_that_the_kernel_kills_for_memory_is_replaced(scene: Scene):
    await scene.answer()
    asleep = scene.dice.random() < 0.5
    if asleep:
        await scene.sleep()
        await scene.until_it_is("Asleep")
    leader, cores = await scene.pids()
    clients = [] if asleep else scene.ask_many(4, tokens=60, may=CUT_OFF)
    async with scene.trouble():
        await scene.moment()
        kill(*cores)
        clients += scene.ask_many(2, may=CUT_OFF)
        await asyncio.gather(scene.hurried(), *clients)

        async def is_another() -> bool:
            return (await scene.status())["pid"] != leader

        await async_wait_until(is_another, deadline_s=60, what="another engine")


# The clock


@row(34, bent=True)
async def test_a_wall_clock_that_jumps_moves_nobody(scene: Scene):
    await scene.configure(VICTIM, idle={"sleep_after": "5m", "stop_after": "10m"})
    await scene.answer()
    await scene.answer(RIVAL)
    await scene.answer()
    rests = {VICTIM: "Ready", RIVAL: "Asleep", STEADY: "Ready"}
    before = {model: await scene.until_it_is(phase, model) for model, phase in rests.items()}
    clients = scene.ask_many(4, tokens=100)
    async with scene.trouble(scene.house.bend):
        for hours in scene.dice.sample((-24, -1, 1, 24), 3):
            scene.house.bend(clock_s=hours * 3600.0)
            await scene.moment()
            clients += scene.ask_many(2)
            await asyncio.gather(*clients)
            for model, status in before.items():
                now = await scene.status(model)
                assert (now["pid"], now["phase"]) == (status["pid"], status["phase"])


@row(34, clocked=True)
async def test_a_wall_clock_that_jumps_by_hours_changes_no_load_no_wait_and_no_countdown(scene: Scene):
    """The clock of the whole process and of its engines, not only what Python is told."""
    if wall_clock.library() is None:
        pytest.skip("!!! NO REAL JUMP OF A WALL CLOCK WAS PLAYED: that takes a C compiler, and there is none here !!!")
    rests_after_s = 3.0
    load = {"VLLAMA_SIM_LOAD_S": "1.5", "VLLAMA_SIM_TOKEN_S": "0.02"}
    await scene.configure(VICTIM, idle={"sleep_after": f"{rests_after_s}s"}, env=load)
    async with scene.trouble(lambda: scene.house.set_clock(0)):
        for way in scene.dice.sample((-1, 1), 2):
            hours = way * scene.dice.randint(1, 48)
            await scene.stop()
            waiting = scene.ask_many(4, tokens=30)
            await scene.until_it_is("Starting")
            await scene.moment(1.5)
            await _jump(scene, hours)  # within the load
            await scene.moment()
            await _jump(scene, -hours)  # within it, or within the answers
            await asyncio.gather(*waiting)
            asked_at = time.monotonic()
            await scene.answer()
            await scene.moment(rests_after_s)
            await _jump(scene, hours)  # within the countdown
            await scene.until_it_is("Asleep")
            assert time.monotonic() >= asked_at + rests_after_s, "it fell asleep before its time"


async def _jump(scene: Scene, hours: int) -> None:
    """And vllama itself knows no other time, and looks at everything."""
    scene.house.set_clock(hours)
    await scene.post("/admin/reload")
    told = parsedate_to_datetime((await scene.get("/livez")).headers["date"]).timestamp()
    assert abs(told - time.time() - 3600 * hours) < 600
