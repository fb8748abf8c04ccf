"""The failures of vLLM that we know, by their texts, and what a person can do about each."""

import re

_OTHERS_HOLD = "something else holds memory on that GPU: stop it, or give this model less with `memory`"
_HOST_FULL = "the host has less memory free: give this model less with `memory`, or stop something else"
_NO_KV_ROOM = (
    "nothing is left for the KV cache beside the weights: give the model more with `memory` or "
    "`gpu_memory_utilization`, or more GPUs with `tensor_parallel_size`"
)
_TOO_LONG = "lower `max_model_len`, or give the model more with `memory` or `gpu_memory_utilization`"
_DISTURBED = "another program changed the GPU's memory during the start: try again, and keep others off that GPU"
_TAKEN = "the memory that its sleep gave back was taken by others before it woke"
_GPU_FULL = (
    "it needs more GPU memory than it got: lower `max_model_len` or `max_num_seqs`, give it more with `memory`, "
    "or more GPUs with `tensor_parallel_size`"
)
_NO_SLEEP_MODE = "write `extra_args: {enable-sleep-mode: false}` for this model"
_NOT_CACHED = "it is not complete in the model cache and the hub cannot be reached: pull it, or unset HF_HUB_OFFLINE"
_GATED = "accept its licence on the hub and set HF_TOKEN"
_NO_SUCH_MODEL = "check the model's name; a private one needs HF_TOKEN"
_OWN_CODE = "it brings code of its own: write `trust_remote_code: true` if you trust it"
_BAD_FLAG = "check the model's settings and `extra_args` against `vllm serve --help=all`"
_KILLED = "it was killed from outside, most often because the host ran out of memory"
_NATIVE = "it crashed in native code: see what stands above it in the engine's log"

# The first that matches counts.
_KNOWN: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), hint)
    for pattern, hint in (
        (r"Free memory on device .* is less than (?:desired|the engine's)", _OTHERS_HOLD),
        (r"Available memory on node .* less than requested memory for kv \(-", _NO_KV_ROOM),
        (r"Available memory on node .* less than (?:desired CPU memory|requested memory for kv)", _HOST_FULL),
        (r"No available memory for the cache blocks", _NO_KV_ROOM),
        (r"To serve at least one request with the model's max seq len", _TOO_LONG),
        (r"Error in memory profiling", _DISTURBED),
        (r"out of memory at .*cumem_allocator", _TAKEN),
        (r"Failed to load model - not enough GPU memory|OutOfMemoryError|CUDA out of memory", _GPU_FULL),
        (r"Sleep mode is not supported on current platform|cumem allocator is not supported", _NO_SLEEP_MODE),
        (r"LocalEntryNotFoundError|Cannot find an appropriate cached snapshot folder", _NOT_CACHED),
        (r"GatedRepoError|Access to model .* is restricted", _GATED),
        (r"RepositoryNotFoundError|is not a local folder and is not a valid model identifier", _NO_SUCH_MODEL),
        (r"(?i)address already in use", "another program has taken the port"),
        (r"trust_remote_code=True", _OWN_CODE),
        (r"unrecognized arguments|: error: argument", _BAD_FLAG),
        (r"greater than the derived max_model_len", "lower `max_model_len`"),
        (r"No space left on device", "the disk, or /dev/shm, is full"),
        (r"died unexpectedly \(exit code: -9\)", _KILLED),
        (r"died unexpectedly \(exit code: -(?:4|6|7|8|11)\)", _NATIVE),
    )
)


def hint_for(text: str) -> str | None:
    """What to do about a failure that says this; None: not one we know."""
    return next((hint for pattern, hint in _KNOWN if pattern.search(text)), None)
