"""How an engine core loads its model: checks, claims, log lines to learn from, and the ways it can fail."""

import os
import signal
import time
from collections.abc import Sequence
from functools import partial

from vllama.simulator.changes import Collided
from vllama.simulator.command import ServeCommand
from vllama.simulator.devices import DeviceReading, OutOfMemory
from vllama.simulator.log import GIB, gib, log
from vllama.simulator.memory import DeviceMemory, start_check
from vllama.simulator.settings import Settings

_BYTES_PER_TOKEN = 16 << 10  # of KV cache
_say = partial(log, "EngineCore")


class LoadFailed(Exception):
    """The text is what vLLM raises, its type in front."""


def load(command: ServeCommand, settings: Settings, memory: DeviceMemory) -> None:
    """Ends with the memory held. LoadFailed if it cannot."""
    started = time.monotonic()
    _say("core.py:134", f"Initializing a V1 LLM engine (v0.32.0) with config: model='{command.model}', dtype=bfloat16")
    before = list(memory.readings())
    for rank, reading in enumerate(before):
        if error := start_check(rank, reading, command, settings):
            raise LoadFailed(error)
    try:
        with memory.changing("load"):
            _take(command, settings, memory, before)
    except Collided:
        raise _spoilt(before, memory) from None
    _kv_cache(command, settings)
    _summary(before, command, settings)
    _say("core.py:403", f"init engine (profile, create kv cache, warmup model) took {time.monotonic() - started:.2f} s")


def _take(command: ServeCommand, settings: Settings, memory: DeviceMemory, before: Sequence[DeviceReading]) -> None:
    """Weights and profile run: nobody else may move on these devices meanwhile."""
    faults, memory_bytes, started = settings.faults, settings.memory_bytes, time.monotonic()
    _say("gpu_model_runner.py:5040", f"Starting to load model {command.model}...")
    if faults.oom_at_load:
        raise _out_of_memory(memory_bytes, before[0].free_bytes if before else 0)
    try:
        memory.hold(memory_bytes)
    except OutOfMemory as error:
        raise _out_of_memory(error.wanted_bytes, error.free_bytes) from error
    time.sleep(settings.load_s / 2)
    if faults.exit_at_load is not None:
        os._exit(faults.exit_at_load)
    while faults.hang_at_load:
        signal.pause()
    time.sleep(settings.load_s / 2)
    loaded_s = time.monotonic() - started
    weights = gib(_weights(memory_bytes))
    _say("gpu_model_runner.py:5150", f"Model loading took {weights} GiB memory and {loaded_s:.6f} seconds")
    _profile(before, memory)


def _profile(before: Sequence[DeviceReading], memory: DeviceMemory) -> None:
    """Profiling cannot tell a neighbour's memory from its own, so a neighbour that moves makes it give up."""
    for then, now in zip(before, memory.readings(), strict=True):
        if now.free_bytes != then.free_bytes - memory.held_bytes:
            memory.note_the_gone(before)
            raise _spoilt(before, memory)


def _spoilt(before: Sequence[DeviceReading], memory: DeviceMemory) -> LoadFailed:
    then, now = before[0].free_bytes, next(memory.readings()).free_bytes
    return LoadFailed(
        f"AssertionError: Error in memory profiling. Initial free memory {gib(then)} GiB, "
        f"current free memory {gib(now)} GiB. "
        "This happens when other processes sharing the same container release GPU memory while vLLM is "
        "profiling during initialization. To fix this, ensure consistent GPU memory allocation or "
        "isolate vLLM in its own container."
    )


def _kv_cache(command: ServeCommand, settings: Settings) -> None:
    kv_bytes = _kv(command, settings)
    length = command.max_model_len or settings.max_model_len
    if settings.faults.kv_error_at_load:
        raise LoadFailed(
            f"ValueError: To serve at least one request with the model's max seq len ({length}), "
            f"({gib(2 * kv_bytes)} GiB KV cache is needed, which is larger than the available KV cache memory "
            f"({gib(kv_bytes)} GiB). "
            f"Based on the available memory, the estimated maximum model length is {length // 2}. "
            "Try increasing `gpu_memory_utilization` (which also controls CPU memory on the CPU backend) or decreasing "
            "`max_model_len` when initializing the engine. "
            "See https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details."
        )
    tokens = kv_bytes // _BYTES_PER_TOKEN
    _say("gpu_worker.py:760", f"Available KV cache memory: {gib(kv_bytes)} GiB")
    _say(
        "kv_cache_utils.py:2328",
        f"GPU KV cache size: {tokens:,} tokens, "
        f"Maximum concurrency for {length:,} tokens per request: {tokens / length:.2f}x",
    )


def _summary(before: list[DeviceReading], command: ServeCommand, settings: Settings) -> None:
    graphs_bytes = settings.memory_bytes // 20
    _say("gpu_model_runner.py:6582", f"Graph capturing finished in 0 secs, took {graphs_bytes / GIB:.2f} GiB")
    if not before or command.kv_cache_bytes:
        return
    device, kv_bytes = before[0], _kv(command, settings)
    utilization = command.gpu_memory_utilization or 0.92
    requested_bytes = int(device.total_bytes * utilization)
    fit_bytes = requested_bytes - settings.memory_bytes + kv_bytes
    full_bytes = device.free_bytes - settings.memory_bytes + kv_bytes
    _say(
        "gpu_worker.py:1034",
        f"Free memory on device ({gib(device.free_bytes)}/{gib(device.total_bytes)} GiB) on startup. "
        f"Desired GPU memory utilization is ({utilization}, {gib(requested_bytes)} GiB). "
        f"Actual usage is {gib(_weights(settings.memory_bytes))} GiB for consumed memory (weights + non-torch), "
        f"{gib(graphs_bytes)} GiB for peak activation, and {gib(graphs_bytes)} GiB for CUDAGraph memory. "
        f"Replace gpu_memory_utilization config with `--kv-cache-memory={fit_bytes}` ({gib(fit_bytes)} GiB) to fit "
        f"into requested memory, or `--kv-cache-memory={full_bytes}` ({gib(full_bytes)} GiB) to fully "
        f"utilize gpu memory. Current kv cache memory in use is {gib(kv_bytes)} GiB.",
    )


def _weights(memory_bytes: int) -> int:
    return memory_bytes * 6 // 10


def _kv(command: ServeCommand, settings: Settings) -> int:
    return command.kv_cache_bytes or settings.memory_bytes * 3 // 10


def _out_of_memory(wanted_bytes: int, free_bytes: int) -> LoadFailed:
    error = f"CUDA out of memory. Tried to allocate {gib(wanted_bytes)} GiB. {gib(free_bytes)} GiB is free."
    _say(
        "gpu_model_runner.py:5147",
        "Failed to load model - not enough GPU memory. Try lowering --gpu-memory-utilization to free memory for "
        "weights, increasing --tensor-parallel-size, or using --quantization. "
        "See https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more tips. "
        f"(original error: {error})",
        level="ERROR",
    )
    return LoadFailed(f"torch.OutOfMemoryError: {error}")
