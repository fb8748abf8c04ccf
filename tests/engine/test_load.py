from vllama.engine.load import EngineLoad, load_of

TWO = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a}b"} 7.0
vllm:num_requests_running{engine="1",model_name="a}b"} 1.0
vllm:num_requests_waiting{engine="0",model_name="a}b"} 2.0
vllm:num_requests_waiting{engine="1",model_name="a}b"} 1e0
vllm:num_requests_waiting_by_reason{engine="1",model_name="a}b",reason="capacity"} 100.0
vllm:kv_cache_usage_perc{engine="0",model_name="a}b"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="a}b"} 0.1
"""


def test_all_engines_of_a_server_count() -> None:
    assert load_of(TWO) == EngineLoad(running=8, waiting=3, kv_cache_usage=0.3)


def test_the_older_name_of_the_cache_is_known_and_the_present_one_goes_before_it() -> None:
    old = 'process_max_fds 1024.0\nvllm:num_requests_running{model_name="a"} 1\n'
    old += 'vllm:gpu_cache_usage_perc{model_name="a"} 0.25\n'
    assert load_of(old) == EngineLoad(running=1, waiting=0, kv_cache_usage=0.25, max_fds=1024)
    both = load_of(old + 'vllm:kv_cache_usage_perc{model_name="a"} 0.75\n')
    assert both is not None
    assert both.kv_cache_usage == 0.75


def test_what_is_no_number_says_nothing() -> None:
    assert load_of("vllm:num_requests_running NaN\nvllm:num_requests_waiting 3\n") is None
    assert load_of("# no metrics\npython_gc_objects_collected_total 7\n") is None
    assert load_of("vllm:num_requests_running -1\nvllm:num_requests_running +Inf\n") is None
