"""The text of /metrics, read as Prometheus reads it."""

from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.metrics.everything import cluster, everything
from vllama.controller.condition import Condition
from vllama.controller.histogram import Histogram
from vllama.controller.measures import measures_of
from vllama.controller.tally import Sums
from vllama.controller.vitals import Vitals
from vllama.domain.status import ModelStatus, Phase
from vllama.domain.units import GIB
from vllama.gateway.metrics.exposition import State, exposition
from vllama.gateway.metrics.finished import Finished
from vllama.gateway.metrics.meters import Meters
from vllama.gateway.metrics.pulls import Ended, counted

ODD = 'org/"odd\\name"\nof one'


def over(model="org/A", outcome="ok", status=200, **more):
    return Finished(request=None, client="x", model=model, outcome=outcome, status=status, **more)


def samples(meters, statuses=(), conditions=()):
    """(name, labels without the model) -> value, for each model."""
    state = State(version="1.2.3", meters=meters.copy(), statuses=statuses, conditions=conditions, dropped_lines=3)
    found = {}
    for family in text_string_to_metric_families(exposition(state).decode()):
        for name, labels, value, *_ in family.samples:
            rest = {key: each for key, each in labels.items() if key != "model"}
            assert (labels.get("model"), name, *rest.values()) not in found
            found[labels.get("model"), name, *rest.values()] = value
    return found


def test_requests_by_outcome_and_class_of_status():
    meters = Meters()
    for outcome, status in (("ok", 200), ("ok", 201), ("ok", 404), ("engine_error", 500), ("client_gone", 499)):
        meters.add(over(outcome=outcome, status=status))
    meters.add(over(model="", outcome="refused", status=404))
    found = samples(meters)
    counts = {key[0::2] + key[3:]: value for key, value in found.items() if key[1] == "vllama_requests_total"}
    assert counts == {
        ("org/A", "2xx", "ok"): 2, ("org/A", "4xx", "ok"): 1, ("org/A", "5xx", "engine_error"): 1,
        ("org/A", "4xx", "client_gone"): 1, ("", "4xx", "refused"): 1,
    }  # fmt: skip
    assert {name for model, name, *_ in found if model == ""} == {"vllama_requests_total"}


def test_bytes_and_tokens_are_summed_up():
    meters = Meters()
    meters.add(over(request_bytes=10, answer_bytes=100, usage=(3, 4)))
    meters.add(over(request_bytes=1, answer_bytes=1))
    found = samples(meters)
    names = ("request_bytes", "answer_bytes", "prompt_tokens", "completion_tokens")
    assert [found["org/A", f"vllama_{name}_total"] for name in names] == [11, 101, 3, 4]


@pytest.mark.parametrize(
    ("seconds", "first"), [(0.001, "0.001"), (0.00101, "0.0025"), (1800.0, "1800.0"), (1800.1, "+Inf")]
)
def test_a_bucket_has_its_bound_in_it_and_all_below(seconds, first):
    meters = Meters()
    meters.add(over(duration_s=seconds))
    found = samples(meters)
    buckets = [(key[2], value) for key, value in found.items() if key[1] == "vllama_request_duration_seconds_bucket"]
    index = [bound for bound, _ in buckets].index(first)
    assert [value for _, value in buckets] == [0] * index + [1] * (len(buckets) - index)
    assert found["org/A", "vllama_request_duration_seconds_count"] == 1
    assert found["org/A", "vllama_request_duration_seconds_sum"] == seconds


def test_who_did_not_wait_is_in_the_first_bucket_of_the_queue():
    meters = Meters()
    for wait_s in (0.0, 0.0, 0.0005, 7.0):
        meters.add(over(wait_s=wait_s))
    found = samples(meters)
    assert found["org/A", "vllama_queue_seconds_bucket", "0.001"] == 3
    assert found["org/A", "vllama_queue_seconds_bucket", "5.0"] == 3
    assert found["org/A", "vllama_queue_seconds_bucket", "10.0"] == 4
    assert found["org/A", "vllama_queue_seconds_sum"] == 7.0005


def test_what_was_never_answered_has_no_first_byte():
    meters = Meters()
    meters.add(over(first_byte_s=0.2))
    meters.add(over(outcome="timeout", status=503))
    assert samples(meters)["org/A", "vllama_time_to_first_byte_seconds_count"] == 1


def test_models_conditions_and_the_process():
    status = ModelStatus(
        model=ODD, phase=Phase.ASLEEP, reason="r", message="m", declared=True, in_flight=2, waiting=5,
    )  # fmt: skip
    well, ill = (Condition(type=name, ok=ok, reason="", message="") for name, ok in (("A", True), ("B", False)))
    found = samples(Meters(), [status], [well, ill])
    phases = {key[2]: value for key, value in found.items() if key[1] == "vllama_model_phase"}
    assert phases == {phase.value: float(phase is Phase.ASLEEP) for phase in Phase}
    assert found[ODD, "vllama_requests_in_flight"] == 2
    assert found[ODD, "vllama_requests_waiting"] == 5
    assert (found[None, "vllama_condition", "A"], found[None, "vllama_condition", "B"]) == (1, 0)
    assert found[None, "vllama_build_info", "1.2.3"] == 1
    assert found[None, "vllama_access_log_dropped_lines_total"] == 3
    assert found[None, "process_resident_memory_bytes"] > 1e6
    assert found[None, "process_cpu_seconds_total"] > 0


def test_a_pull_of_a_model_and_an_answer_of_it_are_requests_alike():
    meters = Meters()
    meters.add(over())
    with counted(meters, Ended(name="a", model="org/A", request_bytes=1, outcome="ok", status=200)):
        pass
    assert meters.of["org/A"].outcomes == {("ok", 200): 2}
    assert samples(meters)["org/A", "vllama_requests_total", "2xx", "ok"] == 2


def test_a_copy_stands_still():
    meters = Meters()
    meters.add(over())
    twin = meters.copy()
    meters.add(over(duration_s=1.0, wait_s=1.0, first_byte_s=1.0))
    assert twin["org/A"].outcomes == {("ok", 200): 1}
    assert [sum(counts) for counts in (twin["org/A"].waits, twin["org/A"].first_bytes, twin["org/A"].durations)] == [
        0, 0, 1,
    ]  # fmt: skip


def told():
    """(name, value of each label in the order of their names) -> value, of a server with everything."""
    families = text_string_to_metric_families(exposition(everything()).decode())
    return {
        (sample.name, *(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_bytes_of_a_device_add_up_and_replicas_count_for_their_model():
    found = told()
    for device in ("0", "1"):
        parts = [found[f"vllama_device_memory_{part}_bytes", device, "here"] for part in ("reserve", "foreign", "room")]
        engines = [value for key, value in found.items() if key[:2] == ("vllama_device_memory_engine_bytes", device)]
        assert sum(parts) + sum(engines) == found["vllama_device_memory_bytes", device, "here"] == 8 * GIB
    assert found["vllama_device_memory_foreign_bytes", "1", "here"] == GIB
    assert found["vllama_device_memory_engine_bytes", "1", "org/A", "here", "Ready"] == 3 * GIB
    assert found["vllama_device_memory_engine_measured_bytes", "1", "org/B", "here"] == GIB / 2
    assert found["vllama_host_memory_copy_bytes", "org/B", "here"] == 3 * GIB
    assert found["vllama_model_footprint_bytes", "org/A", "awake"] == 3 * GIB
    assert not any("#2" in part for key in found for part in key)


def test_what_the_driver_does_not_tell_has_no_sample():
    blind = replace(everything(), measures=measures_of(*cluster(unknown={0}).states(), Sums(), Histogram((1.0,))))
    text = exposition(blind).decode()
    assert 'vllama_device_memory_bytes{device="0",node="here"}' in text
    assert 'vllama_device_memory_room_bytes{device="1",node="here"}' in text
    for part in ("used", "foreign", "room"):
        assert f'vllama_device_memory_{part}_bytes{{device="0"' not in text


def test_replicas_are_counted_where_a_model_has_several():
    found = told()
    assert found["vllama_model_replicas", "org/A", "Ready"] == 1
    assert found["vllama_model_replicas", "org/A", "Starting"] == 1
    assert found["vllama_model_replicas", "org/A", "Stopped"] == 0
    assert ("vllama_model_replicas", "org/B", "Asleep") not in found
    assert found["vllama_model_phase", "org/A", "Ready"] == 1


def test_who_waits_is_seen_before_the_wait_is_over():
    assert told()["vllama_oldest_waiting_seconds", "org/B"] == 7.0
    assert told()["vllama_oldest_waiting_seconds", "org/A"] == 0.0


def test_the_buckets_of_an_operation():
    found = told()
    buckets = {key[1]: value for key, value in found.items() if key[0] == "vllama_operation_duration_seconds_bucket"}
    assert (buckets["0.1"], buckets["0.5"], buckets["10.0"], buckets["30.0"], buckets["+Inf"]) == (0, 1, 1, 2, 2)
    assert found["vllama_operation_duration_seconds_sum", "org/A", "start"] == 12.2


@pytest.mark.parametrize(("unready", "value"), [(None, 1), ("No valid models.yaml was seen yet.", 0)])
def test_ready_is_what_readyz_says_without_the_reason(unready, value):
    text = exposition(replace(everything(), vitals=Vitals(unready=unready))).decode()
    assert f"\nvllama_ready {value}.0\n" in text
    assert "No valid" not in text
