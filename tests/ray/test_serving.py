"""Engines on three machines, and nothing goes wrong."""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.ray.checks import load
from tests.ray.hosts import Inside
from tests.ray.manager import command_of_process, environment_of_process
from tests.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


def test_models_spread_over_the_machines(manager):
    names = [f"org/{name}" for name in "abcdef"]
    with load(manager, *names):
        pass
    where = {name: manager.node_of(name) for name in names}
    assert Counter(where.values()) == {"head": 2, "left": 2, "right": 2}
    listed = manager.vllama("ps")
    assert all(re.search(rf"{name}\s+Ready\s+{node}\s+gpu", listed) for name, node in where.items()), listed


def test_replicas_go_to_different_machines_and_share_the_requests(manager):
    with load(manager, "org/twice"):
        wait_until(lambda: manager.phases()["org/twice#2"] == "Ready", deadline_s=30, what="the second engine")
        with ThreadPoolExecutor(16) as clients:
            answers = list(clients.map(lambda _: manager.chat("org/twice", max_tokens=40).status_code, range(64)))
    assert set(answers) == {200}
    engines = manager.running()
    assert sorted(each.name for each in engines) == ["org/twice", "org/twice#2"]
    assert len({each.host for each in engines}) == 2


def test_an_engine_larger_than_a_machine(manager):
    """It serves, and where one of its machines loses its part the other part goes, too."""
    with load(manager, "org/wide", cut=True) as clients:
        parts = manager.running()
        assert len({part.host for part in parts}) == 2
        assert len({part.engine_id for part in parts}) == 1
        first, further = sorted(parts, key=lambda part: part.host != manager.node_of("org/wide"))
        manager.kill_processes(further)
        wait_until(lambda: not manager.is_there(first), deadline_s=60, what="the end of the first part")
        before = clients.whole("org/wide")
        wait_until(lambda: clients.whole("org/wide") > before, deadline_s=60, what="another engine of it")
    manager.act("stop", "org/wide")
    wait_until(lambda: not manager.running(), deadline_s=30, what="the end of all parts")


def test_an_engine_wants_its_key_and_answers_its_managers_questions_to_its_own_host_only(manager):
    assert manager.chat("org/a").status_code == 200
    (engine,) = manager.running()
    environs = [environment_of_process(pid) for pid in engine.pids]
    (key,) = {environ["VLLAMA_ENGINE_KEY"] for environ in environs if "VLLAMA_ENGINE_KEY" in environ}
    assert not [pid for pid in engine.pids if key in command_of_process(pid)]
    home = manager.cluster[engine.host].host
    elsewhere = next(each.host for each in manager.cluster.machines.values() if each.name != engine.host)
    url = f"http://{home.address}:{engine.port}"
    right, wrong = {"authorization": f"Bearer {key}"}, {"authorization": f"Bearer {'0' * len(key)}"}
    sleep = "/is_sleeping"
    with httpx.Client(transport=Inside(elsewhere), trust_env=False) as there:
        for path in ("/health", "/v1/models", "/metrics", sleep, "/docs", "/"):
            assert (path, there.get(url + path).status_code) == (path, 401)
            assert (path, there.get(url + path, headers=wrong).status_code) == (path, 401)
        assert there.get(f"{url}/v1/models", headers=right).status_code == 200
        assert there.get(url + sleep, headers=right).status_code in {403, 404}
        assert there.post(f"{url}/sleep", headers=right).status_code in {403, 404}
    with httpx.Client(transport=Inside(home), trust_env=False) as here:
        assert here.get(url + sleep).status_code == 401
        assert here.get(url + sleep, headers=right).status_code == 200


def test_what_is_on_other_machines_is_told_by_the_commands(manager):
    for name in ("org/a", "org/b", "org/c"):
        assert manager.chat(name).status_code == 200
    nodes = manager.vllama("nodes")
    assert all(re.search(rf"{name}\s+Ready", nodes, re.IGNORECASE) for name in manager.cluster.machines), nodes
    away = next(name for name in ("org/a", "org/b", "org/c") if manager.node_of(name) != "head")
    assert "Application startup complete" in manager.vllama("logs", away)
    manager.vllama("sleep", away)
    wait_until(lambda: manager.phases()[away] == "Asleep", what=f"{away} asleep")
    assert manager.chat(away).status_code == 200


def test_engines_that_come_up_together_are_not_in_each_others_way(manager):
    """One that spans machines holds its devices on each of them from its start on."""
    with ThreadPoolExecutor() as clients:
        together = [clients.submit(manager.chat, name) for name in ("org/wide", "org/twice", "org/a", "org/b")]
    assert [each.result().status_code for each in together] == [200] * 4
    assert "EngineExited" not in manager.since_it_was_quiet()
