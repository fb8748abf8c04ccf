from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllama.engine.cause import CAUSE_LIMIT_CHARS, root_cause
from vllama.engine.logs import read_tail

LOGS = Path(__file__).parent / "logs"
CORE = "(EngineCore pid=20) ERROR 11-21 12:44:26 [core.py:1510] "
INIT_FAILED = (
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}"
)


NOT_FREE = (
    "ValueError: Free memory on device cuda:0 (10.5/79.1 GiB) on startup is less than desired GPU memory utilization "
    "(0.92, 72.8 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
)


def failed_start(exception: str) -> list[str]:
    """The shape of every failed start: the core's traceback, printed twice, then the API server's."""
    frames = [
        "Traceback (most recent call last):",
        '  File "core.py", line 1482, in run_engine_core',
        "    raise",
        exception,
    ]
    return [
        "(APIServer pid=1) INFO 11-21 12:44:11 [api_utils.py:286] non-default args: {'model': 'm'}",
        CORE + "EngineCore failed to start.",
        *(CORE + frame for frame in frames),
        "(EngineCore pid=20) Process EngineCore:",
        *("(EngineCore pid=20) " + frame for frame in frames),
        "Traceback (most recent call last):",
        '  File "/opt/vllm/bin/vllm", line 8, in <module>',
        INIT_FAILED,
    ]


@pytest.mark.parametrize(
    ("log", "begins", "hint"),
    [
        (
            "cpu-kv-too-big",
            "ValueError: Available memory on node 0 (5.73/7.09 GiB) on kv cache allocation is less than",
            "the host has less memory free",
        ),
        ("cpu-kv-too-small", "ValueError: To serve at least one request with the model's max seq", "max_model_len"),
        ("cpu-utilization-refused", "ValueError: Available memory on node 0 (5.75/7.09 GiB) on startup", "`memory`"),
    ],
)
def test_real_failures(log: str, begins: str, hint: str) -> None:
    cause = root_cause(read_tail(LOGS / f"{log}.log"))
    assert cause is not None
    assert cause.startswith(begins)
    assert hint in cause.rpartition("[")[2]


def test_a_real_run_that_was_told_to_stop_has_no_cause() -> None:
    assert root_cause(read_tail(LOGS / "cpu-chat-served-and-stopped.log")) is None


@pytest.mark.parametrize(
    ("exception", "hint"),
    [
        (
            NOT_FREE,
            "something else holds memory",
        ),
        (
            "AssertionError: Error in memory profiling. Initial free memory 10 GiB, current free memory 12 GiB.",
            "keep others off that GPU",
        ),
        ("ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`", "KV cache"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "more GPU memory"),
        ("RuntimeError: CUDA Error: out of memory at /workspace/csrc/cumem_allocator.cpp:62", "before it woke"),
        (
            "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder for",
            "pull it",
        ),
        ("OSError: [Errno 98] Address already in use", "taken the port"),
        ("ValueError: an unheard-of thing", None),
        ("safetensors_rust.SafetensorError: Error while deserializing header", None),
        ("AssertionError", None),
    ],
)
def test_the_cause_is_the_line_that_is_no_wrapper(exception: str, hint: str | None) -> None:
    cause = root_cause(failed_start(exception))
    assert cause is not None
    assert cause.startswith(exception)
    if hint is None:
        assert cause == exception
    else:
        assert hint in cause


def test_an_exception_by_any_name_ends_its_traceback() -> None:
    assert root_cause(failed_start("zmq.error.Again: Resource temporarily unavailable")) == (
        "zmq.error.Again: Resource temporarily unavailable"
    )


def test_pydantic_says_it_on_the_next_line() -> None:
    lines = [
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
        "  Value error, Sleep mode is not supported on current platform. [type=value_error, input_value=x]",
        "    For further information visit https://errors.pydantic.dev/2/v/value_error",
    ]
    cause = root_cause(["Traceback (most recent call last):", '  File "x"', *lines])
    assert cause is not None
    assert "ModelConfig: Value error, Sleep mode is not supported on current platform. [write `extra_args" in cause


def test_a_flag_that_vllm_does_not_have() -> None:
    cause = root_cause(["usage: vllm serve [model_tag] [options]", "vllm serve: error: unrecognized arguments: --nope"])
    assert cause is not None
    assert cause.startswith("vllm serve: error: unrecognized arguments: --nope [")


def test_a_killed_worker_is_told_where_nothing_else_is() -> None:
    died = "Worker proc VllmWorker-0 died unexpectedly (exit code: -9), shutting down executor."
    lines = [
        "INFO:     Application startup complete.",
        CORE + died,
        CORE + "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above)",
    ]
    assert root_cause(lines) == f"{died} [it was killed from outside, most often because the host ran out of memory]"


def test_a_dead_process_is_no_cause_where_an_exception_is() -> None:
    died = CORE + "Worker proc VllmWorker-0 died unexpectedly (exit code: None), shutting down executor."
    assert root_cause([*failed_start("ValueError: the reason"), died]) == "ValueError: the reason"


def test_only_the_last_run_counts_and_of_it_what_came_after_it_served() -> None:
    old = failed_start("ValueError: yesterday")
    begins = "(APIServer pid=2) INFO 11-22 12:44:11 [api_utils.py:286] non-default args: {}"
    assert root_cause([*old, begins]) is None
    assert root_cause([*old, begins, "ValueError: today"]) == "ValueError: today"
    assert root_cause([*old, "INFO:     Application startup complete."]) is None


def test_warnings_and_access_lines_are_no_causes() -> None:
    lines = [
        "(APIServer pid=1) WARNING 11-21 12:42:22 [a.py:255] OSError: [Errno 24] Too many open files",
        'INFO:     127.0.0.1:46386 - "POST /v1/completions HTTP/1.1" 500 Internal Server Error',
    ]
    assert root_cause(lines) is None


def test_processes_that_write_at_the_same_time_are_told_apart() -> None:
    lines = [
        "(Worker_TP0 pid=7) Traceback (most recent call last):",
        "(Worker_TP1 pid=8) Something harmless",
        '(Worker_TP0 pid=7)   File "x"',
        "(Worker_TP0 pid=7) triton.Unlucky: no",
    ]
    assert root_cause(lines) == "triton.Unlucky: no"


def test_a_cause_is_bounded() -> None:
    cause = root_cause(["ValueError: " + "x" * 100_000])
    assert cause is not None
    assert len(cause) == CAUSE_LIMIT_CHARS


_PIECES = st.sampled_from(
    [CORE, "Traceback (most recent call last):", "ValueError: x", " 2 validation errors for ", "\n"]
)


@given(st.lists(st.lists(_PIECES | st.text(max_size=8), max_size=4).map("".join), max_size=12))
def test_it_raises_on_nothing(lines: list[str]) -> None:
    root_cause(lines)
