from collections.abc import Callable

from tests.simulator.engines import Engine, streaming
from tests.waiting import wait_until


def test_every_sample_is_labelled(shared_chat: Engine) -> None:
    response = shared_chat.http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=1.0.0")
    assert 'vllm:kv_cache_usage_perc{engine="0",model_name="chat"} 0.0' in response.text
    for line in response.text.splitlines():
        assert line.startswith(("# HELP vllm:", "# TYPE vllm:")) or 'model_name="chat"' in line, line


def test_tokens_and_requests_are_counted(shared_chat: Engine) -> None:
    def read() -> tuple[float, ...]:
        return (
            shared_chat.metric("vllm:prompt_tokens_total"),
            shared_chat.metric("vllm:generation_tokens_total"),
            shared_chat.metric("vllm:request_success_total", 'finished_reason="length"'),
        )

    prompt_before, generated_before, finished_before = read()
    usage = shared_chat.chat(max_tokens=5).json()["usage"]
    assert read() == (prompt_before + usage["prompt_tokens"], generated_before + 5, finished_before + 1)


def test_what_runs_shows(shared_chat: Engine) -> None:
    with streaming(shared_chat):
        assert shared_chat.metric("vllm:num_requests_running") == 1
        assert shared_chat.metric("vllm:kv_cache_usage_perc") > 0
    wait_until(lambda: shared_chat.metric("vllm:num_requests_running") == 0, what="nothing runs")


def test_what_waits_shows(start: Callable[..., Engine]) -> None:
    engine = start("--max-num-seqs", "1", "--max-num-queued-reqs", "2").wait_ready()
    with streaming(engine), engine.http.stream("POST", "/v1/completions", json={"prompt": "x", "stream": True}):
        wait_until(lambda: engine.metric("vllm:num_requests_waiting") == 1, what="the second request waits")
        response = engine.chat()
        assert (response.status_code, response.json()["error"]["type"]) == (503, "Service Unavailable")
        assert engine.metric("vllm:admission_rejections_total") == 1


def test_no_stats_no_families(start: Callable[..., Engine]) -> None:
    assert "vllm:" not in start("--disable-log-stats").wait_ready().http.get("/metrics").text
