"""Several engines on one GPU: they start beside each other, and make room for each other."""

import re
import threading
import time
from contextlib import ExitStack

import pytest

from tests.gpu.rig import rig
from vllama.domain.units import GIB, format_bytes

MODELS = """
models:
  gpu/a: {{path: {dummy}, devices: [{gpu}], memory: {memory}, extra_args: {{load-format: dummy}}}}
  gpu/b: {{path: {dummy}, devices: [{gpu}], memory: {memory}, extra_args: {{load-format: dummy}}}}
policy: {{only_declared: true}}
"""
SWAPS = 10
_KV_TOKENS = re.compile(r"GPU KV cache size: ([\d,]+) tokens")


@pytest.fixture
def start(vllm, gauge, models, tmp_path):
    """`start(share)`: two models, each of that share of what is free."""
    opened = ExitStack()

    def start(share: float):
        gpu = gauge.indices[0]
        memory = int(share * gauge.free_bytes(gpu))
        models_yaml = MODELS.format(gpu=gpu, memory=memory, **models)
        made = opened.enter_context(rig(tmp_path / "config", gauge, vllm, models_yaml))
        made.empty, made.memory = made.used_bytes(), memory
        return made

    with opened:
        yield start


def kv_tokens(running, model: str) -> int:
    return int(_KV_TOKENS.findall(running.engine_log(model))[-1].replace(",", ""))


@pytest.mark.parametrize("at_once", [False, True], ids=["one after the other", "asked for at once"])
def test_a_second_start_neither_fails_nor_is_sized_wrongly(start, at_once):
    running = start(0.35)
    askers = [threading.Thread(target=running.ask, args=(model,)) for model in ("gpu/a", "gpu/b")]
    for asker in askers:
        asker.start()
        if not at_once:
            asker.join()
    for asker in askers:
        asker.join()
    assert running.server.phases() == {"gpu/a": "Ready", "gpu/b": "Ready"}
    assert "Crashed" not in running.server.log()
    first, second = kv_tokens(running, "gpu/a"), kv_tokens(running, "gpu/b")
    print(f"\nKV cache tokens: {first} and {second}; in use: {format_bytes(running.used_bytes() - running.empty)}")
    assert abs(first - second) < 0.03 * max(first, second)
    assert running.used_bytes() - running.empty < 2 * (running.memory + GIB)


def test_two_that_do_not_fit_take_turns_and_what_a_turn_costs_beside_the_engines_own_time(start):
    running = start(0.6)
    expected = {model: running.ask(model) for model in ("gpu/a", "gpu/b")}
    assert running.ask("gpu/a") == expected["gpu/a"]  # the first sleep of each pins its copy: not counted
    rows = []
    for turn in range(SWAPS):
        model, other = ("gpu/b", "gpu/a") if turn % 2 == 0 else ("gpu/a", "gpu/b")
        before = own_seconds(running, other, model)
        began = time.monotonic()
        assert running.ask(model, tokens=16) == expected[model]
        took = time.monotonic() - began
        assert running.server.phases() == {model: "Ready", other: "Asleep"}
        rows.append((took, own_seconds(running, other, model) - before))
    print("\nswap, request to answer, s   the engines' own sleep + wake, s   the rest, s")
    for took, own in rows:
        print(f"{took:28.3f}   {own:32.3f}   {took - own:11.3f}")


def own_seconds(running, sleeper: str, waker: str) -> float:
    return sum(running.engine_seconds(sleeper)["fall asleep"]) + sum(running.engine_seconds(waker)["wake up"])
