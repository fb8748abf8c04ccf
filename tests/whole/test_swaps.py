"""What a user sees when models share devices: the real server, real engine processes, made-up devices."""

import threading

import pytest

from tests.waiting import wait_until

THREE = """
models:
  org/A: {{memory: {size}}}
  org/B: {{memory: {size}}}
  org/C: {{memory: {size}}}
"""
RESIDUE = {"VLLAMA_SIM_RESIDUE": "0.4GiB"}


def test_a_call_starts_a_model_and_is_answered(start_server):
    server = start_server(THREE.format(size="3.5GiB"), "--simulate", "8GiB", **RESIDUE)
    assert server.phases() == {"org/A": "Stopped", "org/B": "Stopped", "org/C": "Stopped"}
    answer = server.chat("org/A")
    assert answer.status_code == 200
    assert answer.json()["model"] == "org/A"
    assert answer.json()["usage"]["completion_tokens"] == 4
    assert server.phases()["org/A"] == "Ready"


def test_the_least_recently_used_sleeps_for_the_third(start_server):
    server = start_server(THREE.format(size="3.5GiB"), "--simulate", "8GiB", **RESIDUE)
    for model in ("org/A", "org/B", "org/C"):
        assert server.chat(model).status_code == 200
    ready = {"org/A": "Asleep", "org/B": "Ready", "org/C": "Ready"}
    wait_until(lambda: server.phases() == ready, what="the start to be over")
    assert server.ps()["org/A"]["sleep_level"] == 1
    assert server.chat("org/A").status_code == 200
    awake = {"org/A": "Ready", "org/B": "Asleep", "org/C": "Ready"}
    wait_until(lambda: server.phases() == awake, what="the wake to be over")


def test_the_plan_says_in_numbers_why_a_model_must_stop_rather_than_sleep(start_server):
    server = start_server(THREE.format(size="4GiB"), "--simulate", "8GiB", VLLAMA_SIM_TOKEN_S="0.2", **RESIDUE)
    server.chat("org/A", max_tokens=1)
    server.chat("org/B", max_tokens=1)
    assert server.chat("org/C").status_code == 200
    assert server.phases() == {"org/A": "Stopped", "org/B": "Ready", "org/C": "Ready"}
    line = next(line for line in server.log().splitlines() if "Evicted" in line)
    assert "must stop, not sleep: asleep it would still hold 409.6 MiB" in line
    assert "and 3.6 GiB would be free where org/C needs 4.0 GiB" in line


@pytest.mark.parametrize("size", ["8GiB", "4GiB"])
def test_a_stream_in_progress_is_never_cut_by_anybodys_demand(start_server, size):
    server = start_server(THREE.format(size=size), "--simulate", "8GiB", VLLAMA_SIM_TOKEN_S="0.05", **RESIDUE)
    words, finished = [], threading.Event()

    def stream():
        body = {"model": "org/A", "stream": True, "max_tokens": 40, "messages": [{"role": "user", "content": "go"}]}
        with server.http.stream("POST", f"{server.url}/v1/chat/completions", json=body) as answer:
            words.extend(line for line in answer.iter_lines() if line.startswith("data: "))
        finished.set()

    reader = threading.Thread(target=stream)
    reader.start()
    wait_until(lambda: server.ps()["org/A"]["in_flight"] == 1, what="the stream to begin")
    others = [threading.Thread(target=server.chat, args=(model,)) for model in ("org/B", "org/C")]
    for other in others:
        other.start()
    reader.join(30)
    assert finished.is_set()
    assert words[-1] == "data: [DONE]"
    assert sum('"content":' in word for word in words) >= 40
    for other in others:
        other.join(30)


def test_what_can_never_fit_is_refused_at_once_with_the_arithmetic(start_server):
    server = start_server("models: {org/huge: {memory: 30GiB}}", "--simulate", "2x24GiB")
    answer = server.chat("org/huge")
    assert answer.status_code == 503
    assert "Needs 30.0 GiB; gpu0 has 24.0 GiB" in answer.json()["error"]["message"]


def test_two_devices_serve_two_models_at_once(start_server):
    server = start_server(THREE.format(size="20GiB"), "--simulate", "2x24GiB")
    for model in ("org/A", "org/B"):
        assert server.chat(model).status_code == 200
    ps = server.ps()
    assert sorted([ps["org/A"]["devices"], ps["org/B"]["devices"]]) == [[0], [1]]


def test_after_sigterm_no_process_is_left(start_server):
    server = start_server(THREE.format(size="3.5GiB"), "--simulate", "8GiB", **RESIDUE)
    for model in ("org/A", "org/B", "org/C"):
        server.chat(model)
    assert len(server.engines()) == 6  # an API server and a core each, the sleeper's too
    assert server.terminate() == 0
    assert server.engines() == {}
    assert not (server.config_dir / "server.pid").exists()
