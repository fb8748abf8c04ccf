"""Engines that fail, as their clients see it."""

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
