"""What a real server tells of itself and of its engines, awake and asleep."""

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.packaging.promql import expressions, metrics_of
from tests.simulator.engines import launch
from tests.waiting import wait_until

TWO = "models:\n  org/A: {memory: 3GiB, aliases: [a]}\n  org/B: {memory: 3GiB}\n"


def scraped(server, path):
    """(family, labels) -> value, of all samples."""
    text = server.http.get(server.url + path).text
    return {
        (sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_requests_and_engines_in_all_states(start_server):
    server = start_server(TWO, "--simulate", "8GiB", "--access-log")
    assert scraped(server, "/metrics/engines") == {}
    assert server.chat("a", max_tokens=5).status_code == 200
    assert server.chat("org/B").status_code == 200
    server.act("sleep", "org/B", level=1)
    wait_until(lambda: server.phases()["org/B"] == "Asleep", what="asleep")

    ours = scraped(server, "/metrics")
    assert ours["vllama_requests_total", "code=2xx", "model=org/A", "outcome=ok"] == 1
    assert ours["vllama_completion_tokens_total", "model=org/A"] == 5
    assert ours["vllama_queue_seconds_count", "model=org/A"] == 1
    assert ours["vllama_queue_seconds_sum", "model=org/A"] > 0.1
    assert ours["vllama_model_phase", "model=org/A", "phase=Ready"] == 1
    assert ours["vllama_model_phase", "model=org/B", "phase=Asleep"] == 1
    assert ours["vllama_condition", "type=ManifestValid"] == 1
    assert ours["process_resident_memory_bytes",] > 1e6

    theirs = scraped(server, "/metrics/engines")
    assert theirs["vllama_engine_up", "model=org/A"] == theirs["vllama_engine_up", "model=org/B"] == 1
    state = ("vllm:engine_sleep_state", "engine=0", "model=org/B", "model_name=org/B", "sleep_state=weights_offloaded")
    assert theirs[state] == 1
    assert theirs["vllm:generation_tokens_total", "engine=0", "model=org/A", "model_name=org/A"] >= 5

    def logged():
        lines = (json.loads(line) for line in server.log().splitlines() if line.startswith("{"))
        return [line for line in lines if line["event"] == "request" and line["path"] == "/v1/chat/completions"]

    wait_until(lambda: len(logged()) == 2, what="two lines")
    assert [(line["model"], line["status"], line["completion_tokens"]) for line in logged()] == [
        ("org/A", 200, 5), ("org/B", 200, 4),
    ]  # fmt: skip
    assert logged()[0]["wait_ms"] > 100


def test_without_being_asked_it_logs_no_requests(start_server):
    server = start_server(TWO, "--simulate", "8GiB")
    assert server.chat("a").status_code == 200
    assert server.terminate() == 0
    assert '"event":"request"' not in server.log()
    assert "--access-log logs each request" in server.log()


STORY = """
models:
  org/A: {memory: 3.5GiB}
  org/B: {memory: 3.5GiB}
  org/C: {memory: 3.5GiB}
  org/bad: {memory: 512MiB, env: {VLLAMA_SIM_FAULTS: "exit_at_load:1"}}
  org/twins: {memory: 512MiB, replicas: 2}
servers: [{url: "http://127.0.0.1:%d"}]
"""
NEEDS_A_DEATH = {"vllama_task_deaths_total"}  # of a task of ours
NOT_SIMULATED = {"vllama_host_memory_available_bytes"}


@pytest.fixture
def other(tmp_path):
    """A server that somebody else runs."""
    engine = launch(tmp_path / "other.log")
    yield engine.wait_ready()
    engine.stop()


def counts(found, name):
    """Values of its labels, in the order of their names -> value; without those that are zero."""
    return {
        tuple(label.partition("=")[2] for label in labels): value
        for (each, *labels), value in found.items()
        if each == name and value
    }


def test_a_life_leaves_all_that_the_dashboard_and_the_alerts_ask_for(start_server, other):
    """A start that fails, three that do not, an eviction for the third, and a swap back."""
    server = start_server(STORY % other.port, "--simulate", "8GiB", VLLAMA_SIM_RESIDUE="0.4GiB")
    assert server.chat("org/bad").status_code == 503
    for model in ("org/A", "org/B", "org/C", "tiny/chat"):
        assert server.chat(model).status_code == 200
    assert server.chat("nobody/knows-me").status_code == 404
    server.act("start", "org/A")
    awake = {"org/A": "Ready", "org/B": "Asleep", "org/C": "Ready"}
    wait_until(lambda: awake.items() <= server.phases().items(), what="org/A to be back")
    load = "vllama_server_requests_running", f"server=http://127.0.0.1:{other.port}"
    wait_until(lambda: load in scraped(server, "/metrics"), what="the load of the other server")
    found = scraped(server, "/metrics")
    told = {name for name, *_ in found} | {name for name, *_ in scraped(server, "/metrics/engines")} | {"up"}

    wanted = set().union(*(metrics_of(each) for _, each in expressions()))
    assert len(wanted) > 50
    assert wanted - told - NEEDS_A_DEATH == NOT_SIMULATED

    assert counts(found, "vllama_operations_total") == {
        ("org/A", "start", "Demanded"): 1, ("org/B", "start", "Demanded"): 1, ("org/C", "start", "Demanded"): 1,
        ("org/bad", "start", "Demanded"): 1, ("org/bad", "stop", "EngineExited"): 1,
        ("org/A", "sleep", "Evicted"): 1, ("org/A", "wake", "Demanded"): 1, ("org/B", "sleep", "Evicted"): 1,
    }  # fmt: skip
    assert counts(found, "vllama_evictions_total") == {
        ("org/A", "sleep", "Evicted"): 1, ("org/B", "sleep", "Evicted"): 1,
    }  # fmt: skip
    assert counts(found, "vllama_swaps_total") == {("request", "org/C"): 1, ("operator", "org/A"): 1}
    assert counts(found, "vllama_engine_failures_total") == {("false", "org/bad", "EngineExited"): 1}
    assert found["vllama_engine_failures_in_a_row", "model=org/bad"] == 1
    assert counts(found, "vllama_operation_duration_seconds_count") == {
        ("org/A", "start"): 1, ("org/B", "start"): 1, ("org/C", "start"): 1, ("org/A", "sleep"): 1,
        ("org/B", "sleep"): 1, ("org/A", "wake"): 1, ("org/bad", "stop"): 1,
    }  # fmt: skip
    assert counts(found, "vllama_queue_seconds_count") == {
        ("org/A",): 1, ("org/B",): 1, ("org/C",): 1, ("org/bad",): 1, ("tiny/chat",): 1,
    }  # fmt: skip
    stays = counts(found, "vllama_model_residency_seconds_total")
    assert stays["org/A", "Waking"] > 0.04
    assert stays["org/A", "Asleep"] > 0.2  # while org/C loaded
    lives = {model: sum(s for (each, _), s in stays.items() if each == model) for model, _ in stays}
    twins_s = lives.pop("org/twins")
    assert max(lives.values()) - min(lives.values()) < 0.001
    assert abs(twins_s - 2 * lives["org/A"]) < 0.001
    assert 5 < found["vllama_plan_duration_seconds_count",] <= found["vllama_pass_duration_seconds_count",]
    assert not any("knows-me" in part for key in found for part in key)
