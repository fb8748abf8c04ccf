"""Level 1, level 2 and stop on a real model: what comes back to the GPU, and that the same model answers afterwards."""

import json

import pytest

from tests.gpu.make_models import LARGE, SMALL
from tests.gpu.rig import SAME_BYTES, rig
from vllama.domain.units import GIB, MIB, format_bytes
from vllama.runtime.local import host

MEMORY_BYTES = 8 * GIB
MODELS = """
models:
  gpu/dummy: {{path: {dummy}, devices: [{gpu}], memory: 8GiB, extra_args: {{load-format: dummy}}}}
  gpu/file: {{path: {file}, devices: [{gpu}], memory: 8GiB}}
policy: {{only_declared: true}}
"""
CYCLES = 20


@pytest.fixture(scope="module")
def running(vllm, gauge, models, tmp_path_factory):
    models_yaml = MODELS.format(gpu=gauge.indices[0], **models)
    with rig(tmp_path_factory.mktemp("levels") / "config", gauge, vllm, models_yaml) as made:
        made.empty = made.used_bytes()
        yield made


def test_awake_it_takes_what_it_was_given_and_no_more(running):
    assert running.ask("gpu/dummy")
    awake = running.used_bytes() - running.empty
    print(f"\nawake: {format_bytes(awake)} of {format_bytes(MEMORY_BYTES)}")
    assert 0.75 * MEMORY_BYTES < awake < MEMORY_BYTES + GIB


def test_level_1_frees_the_gpu_keeps_a_copy_on_the_host_and_wakes_as_it_was(running):
    before = running.ask("gpu/dummy")
    awake, sid = running.used_bytes(), running.server.ps()["gpu/dummy"]["pid"]
    on_host = host.engine_bytes({sid: "it"})["it"]
    running.put_to_sleep("gpu/dummy", 1)
    asleep, copy = running.used_bytes(), host.engine_bytes({sid: "it"})["it"] - on_host
    print(
        f"\nlevel 1: {format_bytes(awake - running.empty)} awake, {format_bytes(asleep - running.empty)} asleep, "
        f"{format_bytes(copy)} more of the host for {format_bytes(LARGE.weights_bytes)} of weights"
    )
    assert asleep - running.empty < 3 * GIB
    assert copy > 0.8 * LARGE.weights_bytes
    told = running.server.ps()["gpu/dummy"]["memory_bytes"]
    if told != MEMORY_BYTES:  # else the driver tells no sizes per process here, and it counts as what it may grow to
        assert abs(told - (asleep - running.empty)) < SAME_BYTES
    assert running.ask("gpu/dummy") == before
    assert running.server.phases()["gpu/dummy"] == "Ready"
    assert abs(running.used_bytes() - awake) < SAME_BYTES


def test_what_sleeping_leaves_on_the_gpu_does_not_grow(running):
    before, left = running.ask("gpu/dummy"), []
    for _ in range(CYCLES):
        running.put_to_sleep("gpu/dummy", 1)
        left.append(running.used_bytes() - running.empty)
        assert running.ask("gpu/dummy") == before
    took = running.engine_seconds("gpu/dummy")
    print(f"\nleft after each of {CYCLES} sleeps, MiB: {[size // MIB for size in left]}")
    print(f"the engine's own seconds: {took}")
    assert max(left[1:]) - left[0] < 256 * MIB + left[0] // 10


def test_stop_gives_everything_back(running):
    running.order("gpu/dummy", "stop")
    running.reach("gpu/dummy", "Stopped")
    assert abs(running.used_bytes() - running.empty) < SAME_BYTES


def test_level_2_frees_the_gpu_and_reads_the_weights_again(running):
    before = running.ask("gpu/file")
    awake = running.used_bytes()
    running.put_to_sleep("gpu/file", 2)
    asleep = running.used_bytes()
    print(f"\nlevel 2: {format_bytes(awake - running.empty)} awake, {format_bytes(asleep - running.empty)} asleep")
    assert asleep - running.empty < 3 * GIB
    assert running.ask("gpu/file") == before
    assert running.server.phases()["gpu/file"] == "Ready"


def test_what_was_learned_is_what_the_driver_says(running):
    """Last: it ends the server, which writes down what it knows."""
    running.put_to_sleep("gpu/file", 1)
    asleep = running.used_bytes() - running.empty
    assert running.server.terminate(deadline_s=120) == 0
    profiles = json.loads((running.server.config_dir / "profiles.json").read_text())["profiles"]
    learned = next(profile for key, profile in profiles.items() if key.startswith("gpu/file |"))
    print(f"\nlearned: {learned}; asleep by the driver: {format_bytes(asleep)}")
    assert abs(learned["weights_bytes"] - SMALL.weights_bytes) < 0.1 * SMALL.weights_bytes
    if learned["asleep_bytes"] is not None:  # None: the driver tells no sizes per process here
        assert abs(learned["asleep_bytes"] - asleep) < SAME_BYTES
    assert running.server.engines() == {}
    assert abs(running.used_bytes() - running.empty) < SAME_BYTES
