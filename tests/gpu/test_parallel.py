"""One engine across two GPUs: the same on each, asleep and awake."""

import pytest

from tests.gpu.rig import SAME_BYTES, rig
from vllama.domain.units import GIB, format_bytes


def test_across_two_gpus_it_sleeps_and_wakes_on_both(vllm, gauge, models, tmp_path):
    if len(gauge.indices) < 2:
        pytest.skip("one GPU; two are needed")
    two = gauge.indices[:2]
    models_yaml = (
        f"models: {{gpu/two: {{path: {models['dummy']}, memory: 8GiB, devices: {list(two)}, "
        "extra_args: {load-format: dummy}}}"
    )
    with rig(tmp_path / "config", gauge, vllm, models_yaml) as running:
        empty = [gauge.still_bytes(index) for index in two]
        before = running.ask("gpu/two")
        awake = [gauge.still_bytes(index) - was for index, was in zip(two, empty, strict=True)]
        running.put_to_sleep("gpu/two", 1)
        asleep = [gauge.still_bytes(index) - was for index, was in zip(two, empty, strict=True)]
        print(f"\nawake: {[format_bytes(size) for size in awake]}, asleep: {[format_bytes(size) for size in asleep]}")
        assert all(size < 4 * GIB for size in asleep)
        assert all(less < more / 2 for less, more in zip(asleep, awake, strict=True))
        assert running.ask("gpu/two") == before
        running.order("gpu/two", "stop")
        running.reach("gpu/two", "Stopped")
        for index, was in zip(two, empty, strict=True):
            assert abs(gauge.still_bytes(index) - was) < SAME_BYTES
