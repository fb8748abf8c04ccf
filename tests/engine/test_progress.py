"""Whether an engine moves, read from its metrics."""

from vllama.engine.progress import Progress, progress_of

METRICS = """\
# HELP vllm:generation_tokens_total Number of generation tokens processed.
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="org/A"} 120.0
vllm:generation_tokens_total{engine="1",model_name="org/A"} 3.0
vllm:generation_tokens_created{engine="0",model_name="org/A"} 1.7e+09
vllm:prompt_tokens_total{engine="0",model_name="org/A"} 40.0
vllm:iteration_tokens_total_bucket{engine="0",le="1.0",model_name="org/A"} 5.0
vllm:iteration_tokens_total_count{engine="0",model_name="org/A"} 9.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="org/A"} 2.0
vllm:request_success_total{engine="0",finished_reason="abort",model_name="org/A"} 7.0
vllm:kv_cache_usage_perc{engine="0",model_name="org/A"} 0.25
vllm:num_requests_running{engine="0",model_name="org/A"} 4.0
"""


def test_what_a_core_has_done_is_summed_up_and_what_clients_broke_off_is_not() -> None:
    assert progress_of(METRICS) == Progress(
        generation_tokens=123.0, prompt_tokens=40.0, steps=9.0, finished=2.0, cache_usage=0.25
    )


def test_a_long_prompt_moves_the_cache_and_nothing_else() -> None:
    assert progress_of(METRICS.replace("0.25", "0.2500001")) != progress_of(METRICS)


def test_clients_that_come_and_go_move_nothing() -> None:
    others = METRICS.replace('"abort",model_name="org/A"} 7.0', '"abort",model_name="org/A"} 8.0')
    assert progress_of(others.replace('running{engine="0",model_name="org/A"} 4.0', "running{} 5.0")) == progress_of(
        METRICS
    )


def test_who_keeps_no_figures_tells_none() -> None:
    assert progress_of("") is None
    assert progress_of("process_cpu_seconds_total 3.1\n") is None
    assert progress_of("vllm:generation_tokens_total nonsense\n") is None
