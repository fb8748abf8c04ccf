"""Engines that fail, as their clients see it."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.waiting import wait_until

ONE = 'models: {org/A: {memory: 1GiB, env: {VLLAMA_SIM_FAULTS: "%s"}}}'


def test_a_load_that_fails_is_told_at_once_and_tried_again_after_a_pause(start_server):
    server = start_server(ONE % "exit_at_load:1", "--simulate", "8GiB")
    answer = server.chat("org/A")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "10"
    wait_until(lambda: server.ps()["org/A"]["reason"] == "BackingOff", what="the pause to show")
    started = server.cli("start", "org/A")
    assert started.returncode == 1
    assert "org/A" in started.stderr


HANGS = """
policy: {stop_deadline: 500ms, probe_deadline: 500ms}
models: {org/A: {memory: 1GiB, stall_timeout: 1s, env: {VLLAMA_SIM_FAULTS: "%s"}}}
"""


def patient():
    """Who waits for two engines, one after the other."""
    return httpx.Client(trust_env=False, timeout=90)


def reasons(server):
    return [each["reason"] for each in server.http.get(f"{server.url}/admin/events").json()["events"]]


def start_again(server):
    """Once it has failed: an operator does not wait for the end of its pause."""
    wait_until(lambda: "Crashed" in reasons(server), deadline_s=60, what="the failure to be told")
    server.act("start", "org/A")


def test_an_engine_that_hangs_is_started_anew_and_who_heard_nothing_waits_once_more(start_server):
    server = start_server(HANGS % "completions_hang", "--simulate", "8GiB", http=patient())
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(server.chat, "org/A")
        start_again(server)
        wait_until(lambda: reasons(server).count("Crashed") == 2, deadline_s=60, what="the next engine to hang as well")
        told = answer.result(90)
    assert told.status_code == 502
    assert told.json()["error"]["code"] == "engine_gone"
    events = server.http.get(f"{server.url}/admin/events").json()["events"]
    said = [each["message"] for each in events if each["reason"] == "Crashed"]
    assert all("It hangs: 1 in flight, and for" in message for message in said)
    assert all("0 tokens generated" in message for message in said)
    assert server.log().count("Traceback") == 0


def test_who_waits_at_a_stopped_process_is_answered_by_the_next_engine(start_server):
    server = start_server(HANGS % "", "--simulate", "8GiB", http=patient(), VLLAMA_SIM_TOKEN_S="0.2")
    assert server.chat("org/A").status_code == 200
    with ThreadPoolExecutor() as pool:
        for pid in server.engines():
            os.kill(pid, signal.SIGSTOP)
        answer = pool.submit(server.chat, "org/A")
        start_again(server)
        told = answer.result(90)
    assert told.status_code == 200, (told.text, server.log())
    assert told.headers["x-vllama-state"] == "started"


def test_who_mends_the_settings_of_a_model_that_failed_waits_for_no_pause(start_server):
    server = start_server(ONE % "exit_at_load:1", "--simulate", "8GiB")
    assert server.chat("org/A").status_code == 503
    (server.config_dir / "models.yaml").write_text(ONE % "")
    assert server.http.post(f"{server.url}/admin/reload").status_code == 200
    answer = server.chat("org/A")
    assert answer.status_code == 200
    assert int(answer.headers["x-vllama-wait-ms"]) < 9_000  # the pause would be 10 s
