"""What breaks on three machines, while clients call: the order is from small to large."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.ray.checks import all_is_well, load
from tests.ray.cluster import Refused, kill, title_of
from tests.ray.manager import GRACE_S
from tests.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]
A, B, C = "org/a", "org/b", "org/c"


def one_on_each(manager):
    """Three models, by the machine that each is on."""
    for name in (A, B, C):
        assert manager.chat(name).status_code == 200
    where = {manager.node_of(name): name for name in (A, B, C)}
    assert set(where) == set(manager.cluster.machines)
    return where


def engine_of(manager, name):
    (engine,) = (each for each in manager.running() if each.name == name)
    return engine


def test_an_engine_is_killed(manager):
    away = one_on_each(manager)["left"]
    with load(manager, A, B, C, cut=True) as clients:
        killed = engine_of(manager, away)
        before = clients.whole(away)
        manager.kill_processes(killed)
        wait_until(lambda: clients.whole(away) > before + 2, deadline_s=40, what="another engine of it")
        assert engine_of(manager, away).engine_id != killed.engine_id


def test_an_agent_is_killed_and_no_client_notices(manager):
    """Where Ray takes longer to start it again than its machine may be silent, its models are started elsewhere."""
    away = one_on_each(manager)["left"]
    left = manager.cluster["left"]
    with load(manager, A, B, C) as clients:
        engine, agent, lost = engine_of(manager, away), manager.agent_of(left), manager.times("NodeLost", "left")
        kill(agent)
        before = clients.whole(away)
        wait_until(lambda: manager.agents_of(left) not in ([], [agent]), deadline_s=60, what="another agent")
        wait_until(lambda: manager.nodes()["left"] == "ready", deadline_s=60, what="its machine to be ready")
        wait_until(lambda: clients.whole(away) > before + 2, deadline_s=30, what="answers")
        all_is_well(manager)
        kept = engine_of(manager, away) == engine  # the same one, with the same processes
        assert kept or manager.times("NodeLost", "left") > lost


def test_a_keeper_is_killed_and_another_takes_its_place(manager):
    left = manager.cluster["left"]
    (keeper,) = keepers(left)
    kill(keeper)
    wait_until(lambda: keepers(left) not in ([], [keeper]), deadline_s=20, what="another keeper")


def keepers(machine):
    return [pid for pid in machine.host.processes() if "vllama.runtime.ray.keeper" in title_of(pid)]


def test_the_manager_is_killed_and_the_next_adopts(manager):
    one_on_each(manager)
    engines = manager.running()
    with load(manager, A, B, C, cut=True):
        manager.kill()
        manager.start()
    assert manager.running() == engines, "the same ones, with the same processes"


def test_a_machine_dies_and_comes_back(manager):
    where = one_on_each(manager)
    lost, left = where["left"], manager.cluster["left"]
    with load(manager, A, B, C, cut=True) as clients:
        left.power_off()
        before = clients.whole(lost)
        wait_until(lambda: manager.nodes()["left"] == "lost", deadline_s=10, what="its machine to be lost")
        wait_until(lambda: clients.whole(lost) > before + 2, deadline_s=40, what="an engine elsewhere")
        assert manager.node_of(lost) != "left"
        fenced = manager.times("NodeFenced", "left")
        left.start()
        wait_until(lambda: manager.nodes()["left"] == "ready", deadline_s=60, what="its machine to be used again")
        assert manager.times("NodeFenced", "left") > fenced
    for name in ("org/d", "org/e", "org/f"):
        assert manager.chat(name).status_code == 200
    assert "left" in {manager.node_of(name) for name in ("org/d", "org/e", "org/f")}


def test_a_machine_is_cut_off_for_a_moment_and_its_engines_stay(manager):
    """Shorter than Ray's patience, longer than ours."""
    away = one_on_each(manager)["left"]
    engine = engine_of(manager, away)
    left = manager.cluster["left"].host
    left.cut_off()
    try:
        wait_until(lambda: manager.nodes()["left"] == "lost", deadline_s=10, what="its machine to be lost")
    finally:
        left.reconnect()
    wait_until(lambda: manager.nodes()["left"] == "ready", deadline_s=30, what="its machine to be ready")
    assert manager.chat(away).status_code == 200
    assert engine_of(manager, away) == engine


def test_a_machine_is_cut_off_for_long(manager):
    """Its models go on elsewhere; what it ran alone is ended before it is used again."""
    where = one_on_each(manager)
    lost, left = where["left"], manager.cluster["left"]
    isolated = engine_of(manager, lost)
    with load(manager, A, B, C, cut=True) as clients:
        left.host.cut_off()
        try:
            before = clients.whole(lost)
            wait_until(lambda: manager.nodes()["left"] == "lost", deadline_s=10, what="its machine to be lost")
            wait_until(lambda: clients.whole(lost) > before + 2, deadline_s=40, what="an engine elsewhere")
            assert manager.node_of(lost) != "left"
            assert manager.is_there(isolated), "nobody could end it"
            wait_until(lambda: "declared it dead" in manager.said("left"), deadline_s=60, what="Ray to give it up")
        finally:
            left.host.reconnect()
        wait_until(lambda: manager.nodes()["left"] == "ready", deadline_s=90, what="its machine to be used again")
        assert not manager.is_there(isolated)


def test_ray_is_started_again_on_a_machine(manager):
    """As `systemctl restart` does it."""
    away = one_on_each(manager)["right"]
    right = manager.cluster["right"]
    raylet = right.raylet()
    with load(manager, A, B, C, cut=True) as clients:
        kill(right.main_process(), number=signal.SIGTERM)
        wait_until(lambda: right.raylet() not in (None, raylet), deadline_s=30, what="Ray to be there again")
        before = clients.whole(away)
        wait_until(lambda: manager.nodes()["right"] == "ready", deadline_s=60, what="its machine to be used again")
        wait_until(lambda: clients.whole(away) > before, deadline_s=40, what="answers")


def test_ray_ends_on_a_machine_and_no_engine_outlives_it_for_long(manager):
    away = one_on_each(manager)["right"]
    right = manager.cluster["right"]
    engine = engine_of(manager, away)
    right.stop_ray()
    try:
        assert manager.is_there(engine), "it may be adopted"
        wait_until(lambda: manager.chat(away).status_code == 200, deadline_s=60, what="an engine elsewhere")
        wait_until(lambda: not manager.running([right]), deadline_s=GRACE_S + 30, what="the end of its engines")
    finally:
        right.start()
    wait_until(lambda: manager.nodes()["right"] == "ready", deadline_s=60, what="its machine to be used again")


def test_the_heads_ray_crashes_and_all_come_back(manager):
    """The manager lives on beside it. Without a head no engine is started, but those that are there serve."""
    one_on_each(manager)
    with load(manager, A, B, C, cut=True):
        manager.cluster.head.kill_ray()
        wait_until(lambda: set(manager.nodes().values()) != {"ready"}, deadline_s=30, what="the manager to notice")
        all_is_well(manager)


def test_the_head_loses_power_and_the_others_engines_are_adopted(manager):
    where = one_on_each(manager)
    kept = [engine_of(manager, where[name]) for name in ("left", "right")]
    manager.cluster.head.power_off()
    manager.process.wait()
    manager.cluster.head.start()
    manager.cluster.wait_for_head()
    manager.start()
    all_is_well(manager)
    assert [each for each in manager.running() if each.host != "head"] == kept, "the same ones, with the same processes"
    for name in (A, B, C):
        assert manager.chat(name).status_code == 200


def test_nobody_gets_in_without_the_token(manager):
    """Ray itself tries for twenty seconds before it gives up, so all at once."""
    wrong = "0" * 64
    with ThreadPoolExecutor() as together:
        refusals = [
            together.submit(manager.refusal, RAY_AUTH_MODE="disabled"),
            together.submit(manager.refusal, RAY_AUTH_TOKEN=wrong),
            together.submit(manager.refusal, "--ray-insecure", RAY_AUTH_MODE="disabled"),
        ]
        stranger = together.submit(manager.cluster.alive, RAY_AUTH_TOKEN=wrong)
    said = [each.result() for each in refusals]
    assert all("token" in each and "Traceback" not in each for each in said), said
    assert "--ray-insecure" in said[0]
    assert wrong not in "".join(said)
    with pytest.raises(Refused, match="token"):
        stranger.result()
