"""Several engines' metrics as one text, read as Prometheus reads it."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from vllama.engine.families import merged

ENGINE = """\
# HELP python_gc_objects_collected_total Objects collected during gc
# TYPE python_gc_objects_collected_total counter
python_gc_objects_collected_total{generation="0"} 1.0
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a"} 2.0
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="a"} 31.0
# HELP vllm:prompt_tokens_created Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_created gauge
vllm:prompt_tokens_created{engine="0",model_name="a"} 1.7e+09
# HELP vllm:request_queue_time_seconds Histogram of time spent in WAITING phase.
# TYPE vllm:request_queue_time_seconds histogram
vllm:request_queue_time_seconds_bucket{engine="0",le="0.3",model_name="a"} 1.0
vllm:request_queue_time_seconds_bucket{engine="0",le="+Inf",model_name="a"} 1.0
vllm:request_queue_time_seconds_count{engine="0",model_name="a"} 1.0
vllm:request_queue_time_seconds_sum{engine="0",model_name="a"} 0.01
# HELP vllm:iteration_tokens_total Histogram of number of tokens per engine_step.
# TYPE vllm:iteration_tokens_total histogram
vllm:iteration_tokens_total_bucket{engine="0",le="+Inf",model_name="a"} 9.0
vllm:iteration_tokens_total_count{engine="0",model_name="a"} 9.0
vllm:iteration_tokens_total_sum{engine="0",model_name="a"} 40.0
# HELP http_requests_total Total number of requests.
# TYPE http_requests_total counter
http_requests_total{handler="/v1/chat/completions"} 3.0
"""


def read(text):
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    return {family.name: family for family in families}


def test_each_family_once_and_each_sample_with_its_model():
    text = merged([("org/A", ENGINE), ("org/B", ENGINE)])
    families = read(text)
    assert {name: family.type for name, family in families.items()} == {
        "vllm:num_requests_running": "gauge",
        "vllm:prompt_tokens": "counter",
        "vllm:prompt_tokens_created": "gauge",
        "vllm:request_queue_time_seconds": "histogram",
        "vllm:iteration_tokens_total": "histogram",
    }
    assert len([line for line in text.splitlines() if line.startswith("# ")]) == 2 * len(families)
    for family in families.values():
        assert {sample.labels["model"] for sample in family.samples} == {"org/A", "org/B"}
        assert {sample.labels["model_name"] for sample in family.samples} == {"a"}
    running = families["vllm:num_requests_running"]
    assert running.documentation == "Number of requests in model execution batches."
    assert [sample.value for sample in running.samples] == [2.0, 2.0]


@pytest.mark.parametrize("model", ['a"b', "a\\", "a\nb", "ü"])
def test_any_name_of_a_model(model):
    for family in read(merged([(model, ENGINE)])).values():
        assert {sample.labels["model"] for sample in family.samples} == {model}


def test_samples_with_other_labels():
    samples = ("x 1", 'x{model="own",a="b"} 2', 'x{a="},\\"model=\\"",} NaN', "x{} +Inf 17")
    text = "# TYPE vllm:x gauge\n" + "".join(f"vllm:{sample}\n" for sample in samples)
    (family,) = read(merged([("m", text)])).values()
    assert [sample.labels for sample in family.samples] == [
        {"model": "m"}, {"model": "m", "exported_model": "own", "a": "b"}, {"model": "m", "a": '},"model="'},
        {"model": "m"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line",
    ["vllm:x{", 'vllm:x{a="} 1', "vllm:x one", "vllm:x", "vllm:x 1_0", 'vllm:x{a="b" c="d"} 1', "vllm:x 1 2 3",
     'vllm:x{a="\x85b"} 1\x852', "vllm:x{0a=\"b\"} 1", "vllm:\xa0x 1", "\x00", 'vllm:x{a="\\q"} 1'],
)  # fmt: skip
def test_what_is_no_sample_is_left_out(line):
    text = merged([("m", f"# TYPE vllm:ok gauge\nvllm:ok 1\n{line}\nvllm:ok 2\n")])
    assert [sample.value for family in read(text).values() for sample in family.samples] == [1.0, 2.0]


def test_a_family_has_one_type_even_if_engines_differ():
    first, second = "# TYPE vllm:x gauge\nvllm:x 1\n", "# TYPE vllm:x counter\nvllm:x 2\n"
    (family,) = read(merged([("a", first), ("b", second)])).values()
    assert (family.type, [sample.labels["model"] for sample in family.samples]) == ("gauge", ["a"])


def test_a_type_that_there_is_not():
    assert "# TYPE vllm:x untyped\n" in merged([("a", "# TYPE vllm:x better\nvllm:x 1\n")])


def test_nothing_at_all():
    assert merged([]) == merged([("a", ""), ("b", "not metrics\n")]) == ""


def test_the_engines_of_one_model_are_added_up():
    text = merged([("a", ENGINE), ("a", ENGINE.replace("1.7e+09", "1.8e+09"))])
    lines = [line.rpartition(" ") for line in text.splitlines() if line.startswith("vllm:")]
    values = {name: float(value) for name, _, value in lines}
    assert len(values) == len(lines)
    assert values['vllm:num_requests_running{model="a",engine="0",model_name="a"}'] == 4.0
    assert values['vllm:prompt_tokens_total{model="a",engine="0",model_name="a"}'] == 62.0
    assert values['vllm:prompt_tokens_created{model="a",engine="0",model_name="a"}'] == 1.8e9
    read(text)
