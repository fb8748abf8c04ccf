"""Engines that fail: at load, in the middle of answers, at sleep, at wake, in what they say and in how they end."""

import asyncio

from tests.faults.clients import Kind
from tests.faults.house import RIVAL, VICTIM
from tests.faults.rows import row
from tests.faults.scene import CUT_OFF, Scene
from tests.waiting import async_wait_until
from tests.whole.server import vllama
from vllama.domain.units import MIB

# At load


async def _a_load_fails(scene: Scene, fault: str, *, says: str, **settings: object) -> None:
    """Who asked before it and who comes while it fails: all are told why, and nobody waits for the end of a pause."""
    async with scene.faulty(fault, **settings):
        first = scene.ask_many(2, may={Kind.TOLD})
        await scene.moment(0.3)
        more = scene.ask_many(2, may={Kind.TOLD})
        told = [await each for each in (*first, *more)]
        assert {(each.status, each.code) for each in told} == {(503, "engine_failed")}
        assert all(says in each.said for each in told), told


@row(1)
async def test_an_engine_that_ends_with_an_error_while_it_loads_is_told_to_all_who_wait(scene: Scene):
    await _a_load_fails(scene, f"exit_at_load:{scene.dice.randint(1, 255)}", says="failed")


@row(2)
async def test_an_engine_that_ends_with_0_while_it_loads_has_failed_all_the_same(scene: Scene):
    await _a_load_fails(scene, "exit_at_load:0", says="failed")


@row(3)
async def test_a_load_that_hangs_before_its_port_opens_is_given_up(scene: Scene):
    await _a_load_fails(scene, "hang_at_load", says="", load_timeout="2s")


@row(4)
async def test_a_load_that_is_never_healthy_is_given_up(scene: Scene):
    await _a_load_fails(scene, "health_never", says="", load_timeout="2s")


@row(5)
async def test_a_load_that_runs_out_of_device_memory_is_told_with_vllms_words_and_what_to_do(scene: Scene):
    await _a_load_fails(scene, "oom_at_load", says="CUDA out of memory")


@row(6)
async def test_a_load_without_room_for_its_kv_cache_is_told_with_vllms_words_and_what_to_do(scene: Scene):
    await _a_load_fails(scene, "kv_error_at_load", says="To serve at least one request with the model's max seq len")


# While it serves


async def _dies(scene: Scene, fault: str) -> None:
    async with scene.faulty(fault):
        await scene.start()
        await scene.until_it_is("Ready")
        clients = []
        for _ in range(4):
            clients += scene.ask_many(2, tokens=20, may=CUT_OFF)
            await scene.moment(0.05)
        outcomes = [await each for each in clients]
        # the others of them came when it was dead, and may be served by the next one
        assert any(each.kind is not Kind.WHOLE for each in outcomes) or fault == "die_after_done", outcomes


@row(7)
async def test_an_engine_that_dies_before_its_first_byte_leaves_no_client_without_a_word(scene: Scene):
    await _dies(scene, "die_mid_stream:0")


@row(7)
async def test_an_engine_that_dies_in_the_middle_of_a_stream_ends_it_with_an_error(scene: Scene):
    await _dies(scene, f"die_mid_stream:{scene.dice.randint(1, 18)}")


@row(7)
async def test_an_engine_that_dies_within_a_letter_ends_the_stream_with_an_error_that_can_be_read(scene: Scene):
    await _dies(scene, f"die_mid_utf8:{scene.dice.randint(0, 18)}")


@row(7)
async def test_an_engine_that_dies_behind_its_last_word_has_said_it(scene: Scene):
    await _dies(scene, "die_after_done")


@row(8)
async def test_health_that_flaps_stops_nobody(scene: Scene):
    async with scene.faulty("health_flaps"):
        await scene.start()
        status = await scene.until_it_is("Ready")
        seen: list[int] = []

        async def has_flapped() -> bool:
            answer = await scene._http.get(f"http://127.0.0.1:{status['port']}/health")
            if [answer.status_code] != seen[-1:]:
                seen.append(answer.status_code)
            await scene.answer()
            return len(seen) > 2

        await async_wait_until(has_flapped, deadline_s=60, what="it to be well, ill and well again")
        assert (await scene.status())["pid"] == status["pid"]


@row(9)
async def test_an_engine_that_answers_nothing_though_its_health_is_well_is_replaced(scene: Scene):
    scene.asked_again = True
    async with scene.faulty("completions_hang", stall_timeout="1s"):
        await scene.start()
        pid = (await scene.until_it_is("Ready"))["pid"]
        clients = scene.ask_many(4, may=CUT_OFF)
        await scene.moment()

        async def is_gone() -> bool:
            return (await scene.status())["pid"] != pid

        await async_wait_until(is_gone, deadline_s=60, what="it to be given up")
        await asyncio.gather(*clients)


# Sleep and wake


async def _there_and_back(scene: Scene, fault: str, **how: object) -> str:
    """It is put aside for its rival, and wanted again. Nobody notices but by the time that it takes."""
    async with scene.faulty(fault, **how):
        await scene.answer()
        before = len(scene.house.log())
        await scene.moment(0.2)
        rivals = scene.ask_many(scene.dice.randint(1, 3), RIVAL)
        await asyncio.gather(*rivals)
        back = scene.ask_many(scene.dice.randint(1, 3))
        await asyncio.gather(scene.hurried(), *back)
        return "\n".join(message for name in ("sleepFailed", "wakeFailed")
                         for message in scene.house.events(name, VICTIM, since=before))  # fmt: skip


@row(10)
async def test_a_sleep_that_frees_nothing_becomes_a_stop(scene: Scene):
    assert "still holds" in await _there_and_back(scene, "sleep_frees_nothing")


@row(11)
async def test_a_sleep_that_hangs_becomes_a_stop(scene: Scene):
    assert "no answer in time" in await _there_and_back(scene, "sleep_hangs")


@row(12)
async def test_a_wake_that_finds_no_memory_becomes_a_cold_start(scene: Scene):
    assert "out of memory" in await _there_and_back(scene, "wake_500")


@row(13)
async def test_garbage_after_a_wake_reaches_no_client(scene: Scene):
    assert "answers otherwise than before" in await _there_and_back(scene, "wake_garbage")


@row(14)
async def test_a_sleep_that_is_denied_is_none(scene: Scene):
    assert "and is awake" in await _there_and_back(scene, "denies_sleep")


@row(14)
async def test_a_wake_that_is_denied_is_none(scene: Scene):
    assert "and still sleeps" in await _there_and_back(scene, "denies_wake")


@row(15)
async def test_an_engine_whose_sleeps_leave_more_and_more_behind_is_recycled(scene: Scene):
    async with scene.faulty("residue_grows:300MiB"):
        await scene.answer()
        before = len(scene.house.log())
        pids = {(await scene.status())["pid"]}

        async def is_recycled() -> bool:
            await scene.swap()
            await scene.answer()
            pids.add((await scene.status())["pid"])
            return len(pids) > 1

        await async_wait_until(is_recycled, deadline_s=60, what="another engine")
        assert scene.house.events("ResidueGrew", VICTIM, since=before) or scene.house.events(
            "Evicted", VICTIM, since=before
        )


@row(19)
async def test_an_engine_that_ends_while_it_falls_asleep_is_cleaned_up(scene: Scene):
    assert "POST /sleep" in await _there_and_back(scene, "sleep_exits")


# What it says, and how it ends


@row(16)
async def test_an_engine_that_ignores_sigterm_is_killed(scene: Scene):
    async with scene.faulty("ignore_sigterm"):
        await scene.answer()
        await scene.moment(0.2)
        await scene.stop()
        assert not [pid for pid, each in scene.house.up.engines().items() if each.sid == (await scene.status())["pid"]]


@row(17)
async def test_processes_that_leave_their_engines_session_go_with_it(scene: Scene):
    fault = scene.dice.choice(("own_session", "double_fork", "own_session,double_fork"))
    async with scene.faulty(fault):
        await scene.answer()
        before = set(scene.house.up.engines())
        await scene.moment(0.2)
        await scene.stop()
        assert len(before - set(scene.house.up.engines())) == 2


@row(18)
async def test_a_flood_of_log_lines_holds_nobody_up_and_none_of_them_acts(scene: Scene):
    memory = scene.house.memory_bytes()
    async with scene.faulty("log_flood,log_halves"):
        await scene.answer()
        for _ in range(scene.dice.randint(2, 5)):
            await scene.answer()
            await scene.moment(0.2)
        shown = await asyncio.to_thread(vllama, "logs", VICTIM, "-n", "2000", "--server", scene.house.up.url)
        assert shown.returncode == 0
        assert "\x1b" not in shown.stdout
        assert scene.house.memory_bytes() < memory + 100 * MIB


@row(20)
async def test_an_engine_that_speaks_no_http_is_told_and_nothing_of_it_passes(scene: Scene):
    async with scene.faulty("not_http"):
        for asked in scene.ask_many(scene.dice.randint(2, 5), may={Kind.TOLD}):
            told = await asked
            assert (told.status, told.code) == (502, "engine_gone")


@row(20)
async def test_an_answer_with_a_header_without_measure_is_told_and_nothing_of_it_passes(scene: Scene):
    async with scene.faulty("huge_header"):
        for asked in scene.ask_many(scene.dice.randint(2, 4), may={Kind.TOLD}):
            told = await asked
            assert (told.status, told.code) == (502, "engine_gone")


@row(20)
async def test_an_event_of_10_mb_passes_and_costs_no_memory(scene: Scene):
    memory = scene.house.memory_bytes()
    async with scene.faulty("long_line"):
        for asked in scene.ask_many(scene.dice.randint(2, 4), may={Kind.PASSED}, junk=True):
            assert (await asked).said == f"{10_000_000 + 8} bytes"
        assert scene.house.memory_bytes() < memory + 64 * MIB
