"""What a real server tells of itself and of its engines, awake and asleep."""

import json

from prometheus_client.parser import text_string_to_metric_families

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
