from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllama.domain.units import GIB
from vllama.engine.learned import LearnedFootprint, learn
from vllama.engine.logs import read_tail

LOGS = Path(__file__).parent / "logs"
WORKER = "(Worker_TP0 pid=7) INFO 11-21 12:43:05 [gpu_worker.py:760] "


FOOTPRINT = (
    "Free memory on device (78.5/79.19 GiB) on startup. Desired GPU memory utilization is (0.9, 71.27 GiB). "
    "Actual usage is 15.27 GiB for consumed memory (weights + non-torch), 1.5 GiB for peak activation, and "
    "0.25 GiB for CUDAGraph memory. Replace gpu_memory_utilization config with `--kv-cache-memory=1` "
    "(1.0 GiB) to fit into requested memory, or `--kv-cache-memory=2` (2.0 GiB) to fully utilize gpu memory. "
    "Current kv cache memory in use is 54.5 GiB."
)
OLDER_FOOTPRINT = (
    "Actual usage is 15.0 GiB for weight, 1.5 GiB for peak activation, 0.5 GiB for non-torch memory, "
    "and 0.25 GiB for CUDAGraph memory."
)
ALLOCATOR = (
    "CuMemAllocator: sleep freed 60.00 GiB memory in total, of which 15.00 GiB is backed up in CPU and the "
    "rest 45.00 GiB is discarded directly."
)


def gib(size: float) -> int:
    return int(size * GIB)


@pytest.mark.parametrize(
    ("line", "learned"),
    [
        (
            "Model loading took 14.99 GiB memory and 5.123456 seconds",
            LearnedFootprint(weights_bytes=gib(14.99), load_s=5.123456),
        ),
        ("Model loading took 15 GiB memory and 5.1 seconds", LearnedFootprint(weights_bytes=15 * GIB, load_s=5.1)),
        ("Available KV cache memory: 40.5 GiB", LearnedFootprint(kv_cache_bytes=gib(40.5))),
        ("Available KV cache memory: -2.5 GiB", LearnedFootprint(kv_cache_bytes=0)),
        (
            "GPU KV cache size: 1,234,567 tokens, Maximum concurrency for 4,096 tokens per request: 12.34x",
            LearnedFootprint(kv_cache_tokens=1_234_567),
        ),
        ("Graph capturing finished in 21 secs, took 0.54 GiB", LearnedFootprint(graphs_bytes=gib(0.54))),
        (
            FOOTPRINT,
            LearnedFootprint(
                consumed_bytes=gib(15.27),
                activation_bytes=gib(1.5),
                graphs_bytes=gib(0.25),
                kv_cache_bytes=gib(54.5),
            ),
        ),
        (
            OLDER_FOOTPRINT,
            LearnedFootprint(consumed_bytes=gib(15.5), activation_bytes=gib(1.5), graphs_bytes=gib(0.25)),
        ),
        ("init engine (profile, create kv cache, warmup model) took 30.51 s", LearnedFootprint(init_s=30.51)),
        (
            "init engine (profile, create kv cache, warmup model) took 30.51 s (compilation: 20.00 s)",
            LearnedFootprint(init_s=30.51),
        ),
        (
            "Sleep mode freed 60.25 GiB memory, 1.25 GiB memory is still in use.",
            LearnedFootprint(sleep_freed_bytes=gib(60.25), asleep_bytes=gib(1.25)),
        ),
        (
            ALLOCATOR,
            LearnedFootprint(host_copy_bytes=15 * GIB),
        ),
        ("It took 0.812345 seconds to fall asleep.", LearnedFootprint(sleep_s=0.812345)),
        ("It took 0.2 seconds to wake up tags {'weights', 'kv_cache'}.", LearnedFootprint(wake_s=0.2)),
        ("Supported tasks: ['token_embed', 'embed']", LearnedFootprint(supported_tasks=("token_embed", "embed"))),
        ("Explicitly set (1.0/19.46) GiB for KV cache on node 0.", LearnedFootprint(kv_cache_bytes=GIB)),
        ("nothing of interest", LearnedFootprint()),
    ],
)  # fmt: skip
def test_what_each_line_teaches(line: str, learned: LearnedFootprint) -> None:
    assert learn([WORKER + line]) == learned
    assert learn([line]) == learned


def test_of_several_workers_the_largest_counts_and_of_several_sleeps_the_latest() -> None:
    known = learn(["Model loading took 8.0 GiB memory and 5.0 seconds", "It took 3.0 seconds to fall asleep."])
    known = learn(["Model loading took 7.5 GiB memory and 6.0 seconds", "It took 1.0 seconds to fall asleep."], known)
    assert (known.weights_bytes, known.load_s, known.sleep_s) == (8 * GIB, 6.0, 1.0)


def test_all_but_the_kv_cache_is_fixed_and_known_from_a_start_that_profiled() -> None:
    known = LearnedFootprint(consumed_bytes=10, kv_cache_bytes=20, activation_bytes=1, graphs_bytes=2)
    assert known.fixed_bytes == 13
    assert LearnedFootprint(consumed_bytes=10).fixed_bytes == 10
    assert LearnedFootprint(kv_cache_bytes=20, graphs_bytes=2).fixed_bytes is None


@pytest.mark.parametrize(
    ("log", "learned"),
    [
        (
            "cpu-chat-served-and-stopped",
            LearnedFootprint(
                kv_cache_bytes=gib(0.06),
                kv_cache_tokens=131_072,
                load_s=0.0,
                init_s=0.06,
                supported_tasks=("generate",),
            ),
        ),
        (
            "cpu-kv-sized-by-vllm",
            LearnedFootprint(
                consumed_bytes=gib(0.54),
                kv_cache_bytes=gib(0.31),
                kv_cache_tokens=641_920,
                load_s=0.0,
                init_s=0.64,
                supported_tasks=("generate",),
            ),
        ),
        (
            "cpu-rerank",
            LearnedFootprint(load_s=0.02, init_s=0.0, supported_tasks=("classify", "token_classify")),
        ),
    ],
)
def test_real_logs(log: str, learned: LearnedFootprint) -> None:
    assert learn(read_tail(LOGS / f"{log}.log")) == learned


_WORDS = st.sampled_from(
    ["Model loading took ", "9" * 400, ".", " GiB", " memory and ", "Supported tasks: [", "-", "1,"]
)


@given(st.lists(_WORDS | st.text(max_size=5), max_size=12))
def test_it_raises_on_nothing(words: list[str]) -> None:
    learn(["".join(words), " seconds".join(words)])
