"""What tools before this one got wrong, as their users saw it."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

from tests.waiting import wait_until

TWO = """
models:
  org/warm: {memory: 4GiB, devices: [0]}
  org/slow: {memory: 4GiB, devices: [1], env: {VLLAMA_SIM_LOAD_S: "300"}}
"""


def test_a_model_that_loads_holds_up_nobody_elses_requests(start_server):
    server = start_server(TWO, "--simulate", "2x8GiB")
    assert server.chat("org/warm").status_code == 200
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.chat, "org/slow")
        wait_until(lambda: server.phases()["org/slow"] == "Starting", what="the slow one to load")
        for _ in range(5):
            answer = server.chat("org/warm")
            assert (answer.status_code, answer.headers["x-vllama-state"]) == (200, "hit")
        assert server.phases()["org/slow"] == "Starting"
        server.act("stop", "org/slow")
        assert waiting.result(20).status_code == 503


def test_an_engine_that_was_killed_is_replaced_for_the_next_request(start_server):
    server = start_server("models: {org/a: {memory: 4GiB}}", "--simulate", "8GiB")
    assert server.chat("org/a").status_code == 200
    before = server.ps()["org/a"]["pid"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: server.ps()["org/a"]["pid"] != before, what="its death to be seen")
    answer = wait_until(lambda: (said := server.chat("org/a")).status_code == 200 and said, deadline_s=20, what="it")
    assert answer.headers["x-vllama-state"] == "started"
    assert server.ps()["org/a"]["pid"] != before
    assert len(server.engines()) == 2  # nothing is left of the old one


def test_a_name_that_two_models_share_and_a_part_of_a_name_start_nobody(start_server):
    server = start_server("models: {org/chat: {memory: 1GiB}, our/chat: {memory: 1GiB}}", "--simulate", "8GiB")
    both = server.chat("chat")
    assert both.status_code == 404
    assert all(name in both.json()["error"]["message"] for name in ("org/chat", "our/chat"))
    assert server.chat("cha").status_code == 404
    assert server.phases() == {"org/chat": "Stopped", "our/chat": "Stopped"}


def test_at_level_3_all_that_are_unused_stop_and_not_only_one(start_server):
    models = """
    defaults: {memory: 1GiB, idle: {sleep_after: 1s}}
    models: {org/a: {}, org/b: {}, org/c: {}, org/asked: {idle: {sleep_after: never}}}
    """
    server = start_server(models, "--simulate", "8GiB", VLLAMA_UNLOAD_MODE="3")
    for model in ("org/a", "org/b", "org/c", "org/asked"):
        assert server.chat(model).status_code == 200
    server.act("sleep", "org/asked", level=3)
    wait_until(lambda: set(server.phases().values()) == {"Stopped"}, deadline_s=20, what="all to stop")
    assert server.engines() == {}


def test_a_load_that_fails_leaves_no_process_behind_whatever_session_it_is_in(start_server):
    faults = "models: {org/a: {memory: 1GiB, env: {VLLAMA_SIM_FAULTS: 'own_session,kv_error_at_load'}}}"
    server = start_server(faults, "--simulate", "8GiB")
    assert server.chat("org/a").status_code == 503
    wait_until(lambda: server.engines() == {}, what="every process of it to be gone")
    assert all(reading.claims == () for reading in server.devices.read())


def test_parameters_that_nobody_asked_for_are_no_mistake(start_server):
    server = start_server("models: {}", "--simulate", "8GiB")
    for path in ("/v1/models", "/health", "/load-stats"):
        assert server.http.get(f"{server.url}{path}?fullscreen_mode=xyz").status_code == 200
