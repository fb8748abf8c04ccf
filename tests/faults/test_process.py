"""Processes that end, are stopped, or find what they need taken: vllama's own, its engines' and other people's."""

import asyncio
import contextlib
import copy
import os
import resource
import signal
import socket
import time
from pathlib import Path

from tests.faults.clients import Kind
from tests.faults.house import BASE, DEVICES, RIVAL, VICTIM, House, kill, stranger
from tests.faults.limits import no_more_processes
from tests.faults.rows import row
from tests.faults.scene import CUT_OFF, NO_SERVER, Scene
from tests.waiting import async_wait_until
from vllama.runtime.local import proc
from vllama.runtime.local.signals import send

ADOPTED_WITHIN_S = 2.0

# vllama itself


async def _all_listed(scene: Scene) -> bool:
    """Every engine that lives is listed, and known for what it is."""
    models = (await scene.get("/admin/status")).json()["models"]
    known = all(each["phase"] in {"Ready", "Asleep", "Stopped", "Starting"} for each in models)
    listed = {each["pid"] for each in models}
    living = await asyncio.to_thread(scene.house.up.engines)
    return known and {each.sid for each in living.values()} <= listed


async def _killed_and_back(scene: Scene) -> None:
    """SIGKILL under load, and a new one on the same directory: it has every engine in 2 s, from its first answer on."""
    scene.bystanders_may = NO_SERVER
    clients = scene.ask_many(scene.dice.randint(2, 6), tokens=30, may=NO_SERVER)
    await scene.moment(0.8)
    steady = (await scene.status("org/steady"))["pid"]
    async with scene.trouble():
        await asyncio.to_thread(scene.house.kill)
        await scene.moment(0.2)
        await asyncio.to_thread(scene.house.start)
        began = time.monotonic()

        async def so() -> bool:
            return await _all_listed(scene)

        await async_wait_until(so, deadline_s=60, what="every engine to be adopted or reaped")
        scene.notes["adoption_s"] = time.monotonic() - began
        await asyncio.gather(*clients)
    assert (await scene.status("org/steady"))["pid"] == steady, "who served was not adopted"


@row(21)
async def test_a_killed_vllamas_engines_are_adopted_while_they_serve(scene: Scene):
    await scene.answer()
    await _killed_and_back(scene)


@row(21)
async def test_a_killed_vllamas_engine_is_adopted_or_reaped_while_it_loads(scene: Scene):
    await scene.stop()
    await scene.configure(VICTIM, env={"VLLAMA_SIM_LOAD_S": "1"})
    await _killed_and_back(scene)


@row(21)
async def test_a_killed_vllamas_engine_is_adopted_or_reaped_while_it_sleeps_or_wakes(scene: Scene):
    await scene.stop()
    await scene.configure(VICTIM, env={"VLLAMA_SIM_SLEEP_S": "0.5", "VLLAMA_SIM_WAKE_S": "0.5"})
    await scene.answer()
    await scene.sleep()
    await scene.moment(1.5)
    await _killed_and_back(scene)


@row(21)
async def test_a_killed_vllamas_engine_is_reaped_where_it_died_as_well(scene: Scene):
    await scene.answer()
    leader, others = await scene.pids()
    scene.house.up.process.send_signal(signal.SIGSTOP)  # it is not to notice
    kill(leader, *others[: scene.dice.randint(0, len(others))])
    await _killed_and_back_stopped(scene)


async def _killed_and_back_stopped(scene: Scene) -> None:
    scene.bystanders_may = NO_SERVER
    async with scene.trouble():
        await asyncio.to_thread(scene.house.kill)
        await asyncio.to_thread(scene.house.start)
        began = time.monotonic()

        async def so() -> bool:
            return await _all_listed(scene)

        await async_wait_until(so, deadline_s=60, what="every engine to be adopted or reaped")
        scene.notes["adoption_s"] = time.monotonic() - began


@row(23, own_server=True, VLLAMA_SIM_TOKEN_S="0.02")
async def test_fifty_streams_end_whole_when_vllama_is_told_to_stop(scene: Scene):
    await scene.answer()
    scene.bystanders_may = NO_SERVER
    streams = [scene.ask(stream=True, tokens=scene.dice.randint(50, 120)) for _ in range(50)]

    async def all_begun() -> bool:
        return (await scene.status())["in_flight"] == 50

    await async_wait_until(all_begun, deadline_s=60, what="all streams to be open")
    await scene.moment()
    scene.troubles += 1  # nobody is served any more after this one
    scene.house.up.process.send_signal(signal.SIGTERM)
    assert {(await each).kind for each in streams} == {Kind.WHOLE}
    assert await asyncio.to_thread(scene.house.up_or_ended.process.wait, 30) == 0


@row(23, own_server=True, VLLAMA_SIM_TOKEN_S="0.05")
async def test_streams_that_outlast_the_grace_end_with_an_error_event(scene: Scene):
    config = copy.deepcopy(BASE)
    config["policy"]["drain_deadline"] = "1s"
    await scene.apply(config)
    await scene.answer()
    scene.bystanders_may = NO_SERVER
    short = [scene.ask(stream=True, tokens=5) for _ in range(5)]
    endless = [scene.ask(stream=True, tokens=2000, may={Kind.BROKE_OFF}) for _ in range(45)]

    async def all_begun() -> bool:
        return (await scene.status())["in_flight"] >= len(endless)

    await async_wait_until(all_begun, deadline_s=60, what="all streams to be open")
    await scene.moment()
    scene.troubles += 1
    scene.house.up.process.send_signal(signal.SIGTERM)
    assert {(await each).kind for each in short} == {Kind.WHOLE}
    assert {(await each).kind for each in endless} == {Kind.BROKE_OFF}
    assert await asyncio.to_thread(scene.house.up_or_ended.process.wait, 30) == 0


@row(24)
async def test_a_second_vllama_on_the_same_directory_says_so_and_disturbs_nobody(scene: Scene):
    await scene.answer()
    pid = (await scene.status())["pid"]
    async with scene.trouble():
        clients = scene.ask_many(4, tokens=20)
        ended, said = await asyncio.to_thread(_second, scene.house)
        assert ended == 1
        assert f"Another vllama already serves {scene.house.config_dir}" in said
        assert "Traceback" not in said
        await asyncio.gather(*clients)
    assert (await scene.status())["pid"] == pid


def _second(house: House) -> tuple[int, str]:
    done = house.run_once("--simulate", DEVICES)
    return done.returncode, done.stdout + done.stderr


# Engines


@row(22)
async def test_a_core_whose_api_server_was_killed_is_reaped_and_its_clients_are_told(scene: Scene):
    await scene.answer()
    leader, cores = await scene.pids()
    clients = scene.ask_many(6, tokens=60, may=CUT_OFF)
    async with scene.trouble():
        await scene.moment()
        kill(leader)
        await asyncio.gather(scene.hurried(), *clients)
        await scene.until(lambda: not any(proc.process(each) and not proc.process(each).zombie for each in cores),
                          what="the core to be gone")  # fmt: skip


@row(25)
async def test_an_engine_that_is_stopped_by_a_signal_is_replaced(scene: Scene):
    scene.asked_again = True
    await scene.stop()
    await scene.configure(VICTIM, stall_timeout="1s")
    await scene.answer()
    leader, others = await scene.pids()
    chosen = scene.dice.choice(([leader], others, [leader, *others]))
    clients = scene.ask_many(4, tokens=60, may=CUT_OFF)
    async with scene.trouble():
        await scene.moment()
        kill(*chosen, number=signal.SIGSTOP)
        await asyncio.gather(scene.hurried(), *clients)
        assert (await scene.status())["pid"] != leader


@row(26)
async def test_a_process_that_has_an_engines_old_number_is_nobody_to_vllama(scene: Scene):
    await scene.answer()
    leader, others = await scene.pids()
    scene.bystanders_may = NO_SERVER
    async with scene.trouble():
        manager = scene.house.up.process.pid
        await asyncio.to_thread(scene.house.kill)
        kill(leader, *others)
        await scene.until(lambda: all(proc.process(each) is None for each in (leader, *others)), what="all to be gone")
        with _strangers_called(leader, manager) as strangers:
            await asyncio.to_thread(scene.house.start)
            await scene.answer()
            await scene.stop()
            assert [each.poll() for each in strangers] == [None] * len(strangers)
            for each in strangers:  # also where the kernel would not give the same numbers
                seen = proc.process(each.pid)
                assert seen is not None
                older = proc.Process(
                    pid=seen.pid, ppid=seen.ppid, sid=seen.sid, start_ticks=seen.start_ticks - 1, zombie=False
                )  # fmt: skip
                assert not send(older, signal.SIGKILL)
                assert each.poll() is None


@contextlib.contextmanager
def _strangers_called(*pids: int):
    """Processes with these numbers, where the kernel lets us choose; else with others."""
    strangers = []
    try:
        for pid in pids:
            for _ in range(20):
                with contextlib.suppress(OSError):
                    Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
                each = stranger()
                if each.pid == pid or not os.access("/proc/sys/kernel/ns_last_pid", os.W_OK):
                    break
                each.kill()
                each.wait()
                each = None
            strangers += [stranger()] if each is None else [each]
        yield strangers
    finally:
        for each in strangers:
            each.kill()
            each.wait()


@row(27)
async def test_a_port_that_another_program_has_is_told_to_who_asks(scene: Scene):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        await scene.stop()
        await scene.configure(VICTIM, port=port)
        async with scene.trouble():
            told = await scene.told()
            assert f"Port {port}" in told.said


@row(27)
async def test_a_port_that_is_taken_while_the_engine_loads_fails_that_start_alone(scene: Scene):
    await scene.stop()
    await scene.configure(VICTIM, env={"VLLAMA_SIM_LOAD_S": "1"})
    async with scene.trouble():
        clients = scene.ask_many(2, may={Kind.TOLD})
        await scene.until_it_is("Starting")

        async def its_port() -> int | None:
            return (await scene.status())["port"]

        port = await async_wait_until(its_port, deadline_s=60, what="its port to be known")
        with socket.socket() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            thief.bind(("127.0.0.1", port))
            thief.listen()
            await asyncio.gather(*clients)


@row(28, own_server=True)
async def test_without_file_descriptors_nobody_is_answered_wrongly_and_all_is_well_once_there_are_some(scene: Scene):
    scene.bystanders_may = NO_SERVER
    manager = scene.house.up.process.pid
    _, hard = resource.prlimit(manager, resource.RLIMIT_NOFILE)
    few = scene.house.open_files() + scene.dice.randint(0, 8)

    def lift() -> None:
        resource.prlimit(manager, resource.RLIMIT_NOFILE, (hard, hard))

    resource.prlimit(manager, resource.RLIMIT_NOFILE, (few, hard))
    scene.troubles += 1
    try:
        clients = scene.ask_many(20, may=NO_SERVER)
        await scene.moment(2.0)
    finally:
        lift()
    await asyncio.gather(*clients)
    await scene.start()


@row(28, own_server=True)
async def test_where_no_process_can_be_started_who_asks_is_told_and_the_others_are_served(scene: Scene):
    await scene.answer()
    await scene.sleep()
    if scene.dice.random() < 0.5:
        await scene.stop()
    lift = no_more_processes(scene.house.up.process.pid)
    async with scene.trouble(lift):
        await scene.moment()
        told = [await each for each in scene.ask_many(3, RIVAL, may={Kind.TOLD})]
        assert {(each.status, each.code) for each in told} == {(503, "engine_failed")}
        assert all("the machine starts no further process" in each.said for each in told)
        health = await scene.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert [each["type"] for each in health.json()["conditions"] if not each["ok"]] == ["ProcessesStart"]
    await asyncio.gather(scene.hurried(RIVAL), *scene.ask_many(3, RIVAL))
    assert (await scene.conditions())["ProcessesStart"]
