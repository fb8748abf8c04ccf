"""The ways in which engines that share a device are known to fail, each as its clients see it.

Always: whoever asked has one whole answer, everybody else is served as before, the engine is replaced, what did not
work is not tried again, and nothing is left over.
"""

import json
import os
import random
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.simulator.hogs import hog
from tests.waiting import wait_until
from tests.whole.server import serve
from vllama.domain.units import GIB
from vllama.simulator.changes import Changes

ASLEEP = ("sleep_frees_nothing", "sleep_hangs", "sleep_exits", "denies_sleep")
AWAKE = ("wake_500", "wake_hangs", "wake_garbage", "denies_wake")
TRIED_AGAIN = ("sleep_exits", "wake_500")  # may have been somebody else's fault: a lack of memory
SAID = {
    "sleep_frees_nothing": "still holds 6.0 GiB of 6.0 GiB",
    "sleep_hangs": "the engine did not answer POST /sleep?level=1&mode=wait: no answer in time",
    "sleep_exits": "POST /sleep",
    "denies_sleep": "the engine answered POST /sleep with 200: and is awake",
    "wake_500": "CUDA Error: out of memory",
    "wake_hangs": "the engine did not answer POST /wake_up: no answer in time",
    "wake_garbage": "answers otherwise than before it slept at level 1",
    "denies_wake": "the engine answered POST /wake_up with 200: and still sleeps",
}
MODELS = """
policy: {sleep_deadline: 1s, wake_deadline: 1s, stop_deadline: 1s}
defaults: {memory: 6GiB, devices: [0]}
models:
  org/steady: {memory: 2GiB, devices: [1]}
  org/rival: {}
""" + "".join(f"  org/{fault}: {{env: {{VLLAMA_SIM_FAULTS: {fault}}}}}\n" for fault in (*ASLEEP, *AWAKE))
RESIDUE = {"VLLAMA_SIM_RESIDUE": "100MiB"}


@contextmanager
def served_all_along(server, model):
    """Somebody calls `model` again and again meanwhile, and every answer is the same whole one."""
    stop, heard = threading.Event(), []

    def call():
        while not stop.wait(0.1):
            heard.append(server.ask(model))

    with ThreadPoolExecutor(1) as pool:
        first, calling = server.ask(model), pool.submit(call)
        try:
            yield
        finally:
            stop.set()
        calling.result(30)
    assert set(heard) == {first}


@pytest.fixture(scope="module")
def trapped(tmp_path_factory):
    """One server for all of them. At the end every engine ends, and takes its memory with it."""
    server = serve(tmp_path_factory.mktemp("traps") / "config", MODELS, "--simulate", "2x8GiB", **RESIDUE)
    try:
        with served_all_along(server, "org/steady"):
            steady = server.ps()["org/steady"]["pid"]
            yield server
        assert server.ps()["org/steady"]["pid"] == steady
        assert all((each["waiting"], each["in_flight"]) == (0, 0) for each in server.ps().values())
        assert server.terminate() == 0
        assert server.engines() == {}
        assert all(reading.claims == () for reading in server.devices.read())
    finally:
        server.close()


@pytest.fixture
def in_background():
    with ThreadPoolExecutor(4) as pool:
        yield pool.submit


def answered(server, model, asked: Future) -> str:
    """The text that was asked for."""
    wait_until(lambda: hurried(server, model) and asked.done(), deadline_s=20, what=f"{model} to answer")
    return asked.result()


def hurried(server, model) -> dict:
    """Its status. A failure earns a pause; an operator who thinks that it will work now ends that."""
    status = server.ps()[model]
    if status["reason"] == "BackingOff":
        server.act("start", model)
    return status


def reach(server, wanted: dict[str, str]) -> None:
    """Who answers may still be on its way for a moment: its device is to stand still before others may use it."""
    wait_until(lambda: wanted.items() <= server.phases().items(), what=f"{wanted}")


@pytest.mark.parametrize("fault", ASLEEP)
def test_a_sleep_that_is_none_ends_in_a_stop(trapped, in_background, fault):
    model = f"org/{fault}"
    text = trapped.ask(model)
    rival = trapped.ask("org/rival")  # for whom it is to sleep
    reach(trapped, {model: "Stopped", "org/rival": "Ready"})
    (failed,) = said(trapped, model, "sleepFailed")
    assert SAID[fault] in failed
    assert answered(trapped, model, in_background(trapped.ask, model)) == text
    reach(trapped, {model: "Ready", "org/rival": "Asleep"})
    if fault not in TRIED_AGAIN:
        assert trapped.ask("org/rival") == rival
        reach(trapped, {model: "Stopped", "org/rival": "Ready"})
        assert said(trapped, model, "sleepFailed") == [failed]
        assert "level 1 did not work when it was tried" in said(trapped, model, "Evicted")[-1]


@pytest.mark.parametrize("fault", AWAKE)
def test_a_wake_that_is_none_ends_in_a_cold_start(trapped, in_background, fault):
    model = f"org/{fault}"
    text = trapped.ask(model)
    pid = trapped.ps()[model]["pid"]
    rival = trapped.ask("org/rival")
    reach(trapped, {model: "Asleep", "org/rival": "Ready"})
    assert answered(trapped, model, in_background(trapped.ask, model)) == text
    assert trapped.ps()[model]["pid"] != pid
    (failed,) = said(trapped, model, "wakeFailed")
    assert SAID[fault] in failed
    if fault not in TRIED_AGAIN:
        assert trapped.ask("org/rival") == rival
        reach(trapped, {model: "Stopped", "org/rival": "Ready"})
        assert "level 1 did not work when it was tried" in said(trapped, model, "Evicted")[-1]


def said(server, model: str, event: str) -> list[str]:
    """The messages of its events of one kind."""
    logged = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return [each["message"] for each in logged if (each["event"], each.get("model")) == (event, model)]


# Somebody else's program on our device.

SHARED = """
models:
  org/A: {memory: 6GiB, env: {VLLAMA_SIM_LOAD_S: 1, VLLAMA_SIM_WAKE_S: 1}}
  org/steady: {memory: 1GiB}
"""


@contextmanager
def foreign(server, size_bytes: int):
    """Held by this process, from this moment on; what a hog does, without the time that it takes to start one."""
    server.devices.claim(0, os.getpid(), size_bytes, foreign=True)
    try:
        yield
    finally:
        server.devices.release(0, os.getpid())


def engine_log(server) -> str:
    """All that engines of A ever said."""
    return "".join(path.read_text() for path in (server.config_dir / "logs").glob("org_A-*"))


def wait_held_up(server):
    wait_until(lambda: "held by other programs" in hurried(server, "org/A")["message"], what="A to say what it needs")


@pytest.fixture(scope="module")
def shared_all_along(tmp_path_factory):
    server = serve(tmp_path_factory.mktemp("shared") / "config", SHARED, "--simulate", "8GiB", **RESIDUE)
    try:
        with served_all_along(server, "org/steady"):
            yield server
    finally:
        server.close()


@pytest.fixture
def shared(shared_all_along):
    """A does not run, and no failure is held against it."""
    shared_all_along.act("stop", "org/A")
    reach(shared_all_along, {"org/A": "Stopped"})
    return shared_all_along


def test_memory_that_others_hold_is_waited_for(shared, in_background):
    failed = said(shared, "org/A", "Crashed")
    with hog(shared.devices, "4GiB") as program:
        wait_until(lambda: len(shared.devices.read()[0].claims) == 2, what="the hog to hold memory")
        asked = in_background(shared.ask, "org/A")
        wait_held_up(shared)
        assert not asked.done()
        assert "4.0 GiB held by other programs" in shared.ps()["org/A"]["message"]
        program.kill()
        assert asked.result(20)
    assert said(shared, "org/A", "Crashed") == failed


@pytest.mark.parametrize(("phase", "cause"), [("before", "Free memory on device"), ("during", "memory profiling")])
def test_others_that_take_memory_while_an_engine_starts_fail_that_start_alone(shared, in_background, phase, cause):
    asked = in_background(shared.chat, "org/A")
    wait_until(lambda: len(shared.engines()) > 2, what="A to be spawned")
    if phase == "during":
        wait_until(lambda: len(shared.devices.read()[0].claims) == 2, what="A to load")
    with foreign(shared, 4 * GIB if phase == "before" else GIB):
        answer = asked.result(20)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "10"
        assert cause in answer.json()["error"]["message"]
    assert answered(shared, "org/A", in_background(shared.ask, "org/A"))


def test_others_that_take_memory_before_a_wake_are_seen_and_waited_for(shared, in_background):
    text, pid = shared.ask("org/A"), shared.ps()["org/A"]["pid"]
    shared.act("sleep", "org/A", level=1)
    reach(shared, {"org/A": "Asleep"})
    with foreign(shared, 4 * GIB):  # since the last reading, on which the wake would be planned
        asked = in_background(shared.ask, "org/A")
        wait_held_up(shared)
    assert asked.result(20) == text
    assert shared.ps()["org/A"]["pid"] == pid


def test_others_that_take_memory_during_a_wake_make_it_a_cold_start_and_are_held_against_nobody(shared, in_background):
    text, pid = shared.ask("org/A"), shared.ps()["org/A"]["pid"]
    shared.act("sleep", "org/A", level=1)
    reach(shared, {"org/A": "Asleep"})
    before, asked = engine_log(shared), in_background(shared.ask, "org/A")
    wait_until(lambda: "wake up the engine" in engine_log(shared).removeprefix(before), what="A to wake")
    with foreign(shared, 4 * GIB):
        wait_until(lambda: said(shared, "org/A", "wakeFailed"), what="the wake to fail")
        assert "out of memory" in said(shared, "org/A", "wakeFailed")[-1]
        wait_held_up(shared)
        assert not asked.done()
    assert asked.result(20) == text
    assert shared.ps()["org/A"]["pid"] != pid
    shared.act("sleep", "org/A", level=1)
    reach(shared, {"org/A": "Asleep"})


# What shows only after a while.


def test_a_residue_that_grows_with_every_sleep_ends_the_engine_while_there_is_room(start_server):
    models = """
    models:
      org/A: {memory: 6GiB, env: {VLLAMA_SIM_FAULTS: "residue_grows:300MiB"}}
      org/B: {memory: 6GiB}
    """
    server = start_server(models, "--simulate", "8GiB", **RESIDUE)
    texts, left, pids = set(), [], set()
    for _ in range(5):
        texts.add(server.ask("org/A"))
        pids.add(server.ps()["org/A"]["pid"])
        server.ask("org/B")
        wait_until(lambda: server.ps()["org/A"]["reason"] in {"Sleeping", "NotWanted"}, what="A to rest")
        if server.phases()["org/A"] == "Asleep":
            left.append(server.ps()["org/A"]["memory_bytes"])
    assert len(texts) == 1
    assert len(pids) > 1
    assert max(left) <= 2 * min(left)


def test_where_no_process_is_told_apart_the_device_says_whether_a_sleep_freed_memory(start_server):
    models = """
    models:
      org/A: {memory: 6GiB, env: {VLLAMA_SIM_FAULTS: sleep_frees_nothing}}
      org/B: {memory: 6GiB}
    """
    server = start_server(models, "--simulate", "8GiB", VLLAMA_SIM_HIDES_PROCESSES="1", **RESIDUE)
    text = server.ask("org/A")
    assert server.ask("org/B")
    reach(server, {"org/A": "Stopped", "org/B": "Ready"})
    server.act("start", "org/A")
    assert server.ask("org/A") == text
    reach(server, {"org/A": "Ready", "org/B": "Asleep"})


def test_under_load_nobody_changes_memory_while_another_does(start_server, in_background):
    """Four models where two fit, one of them on both devices: the devices count every two that meet."""
    models = """
    defaults: {memory: 3.5GiB}
    models:
      org/A: {devices: [0]}
      org/B: {devices: [0]}
      org/C: {devices: [1]}
      org/both: {devices: [0, 1]}
    """
    server = start_server(models, "--simulate", "2x8GiB", **RESIDUE)
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    calls = [[dice.choice(["org/A", "org/B", "org/C", "org/both"]) for _ in range(15)] for _ in range(4)]

    def call(models: list[str]) -> list[tuple[str, str]]:
        return [(model, server.ask(model)) for model in models]

    heard = {pair for caller in [in_background(call, each) for each in calls] for pair in caller.result(60)}
    assert len(heard) == 4
    assert Changes(server.devices).collisions() == ()
    events = [json.loads(line)["event"] for line in server.log().splitlines() if line.startswith("{")]
    assert events.count("sleepDone") + events.count("wakeDone") > 4
    assert not [event for event in events if "Failed" in event]
