from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllama.engine.logs import read_tail
from vllama.engine.stage import Stage, stage_of

LOGS = Path(__file__).parent / "logs"


def course(log: str) -> list[Stage]:
    """The stages of a log in their order, each once."""
    stages = [stage_of([line]) for line in read_tail(LOGS / f"{log}.log")]
    known = [stage for stage in stages if stage is not None]
    return known[:1] + [after for before, after in pairwise(known) if after is not before]


def test_a_real_start_goes_through_its_stages_in_order() -> None:
    assert course("cpu-chat-served-and-stopped") == [
        Stage.IMPORTING,
        Stage.ENGINE,
        Stage.WEIGHTS,
        Stage.KV_CACHE,
        Stage.SERVING,
    ]


def test_a_real_failure_stops_where_it_failed() -> None:
    assert course("cpu-kv-too-big")[-1] is Stage.WEIGHTS
    assert course("cpu-utilization-refused")[-1] is Stage.ENGINE


@pytest.mark.parametrize(
    ("line", "stage"),
    [
        ("Loading safetensors checkpoint shards:  50% Completed | 2/4 [00:01<00:01]", Stage.WEIGHTS),
        ("Dynamo bytecode transform time: 5.81 s", Stage.COMPILING),
        ("torch.compile took 20.91 s in total", Stage.COMPILING),
        ("Model loading took 14.99 GiB memory and 5.1 seconds", Stage.PROFILING),
        ("Available KV cache memory: 40.5 GiB", Stage.KV_CACHE),
        ("Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  10%|#  | 7/67", Stage.GRAPHS),
        ("INFO:     Application startup complete.", Stage.SERVING),
    ],
)
def test_gpu_lines(line: str, stage: Stage) -> None:
    assert stage_of([line, "and then nothing telling"], Stage.ENGINE) is stage


def test_the_configuration_dump_tells_no_stage_but_its_own() -> None:
    dump = "Initializing a V1 LLM engine (v0.32.0) with config: 'torch.compile took', 'KV cache size: '"
    assert stage_of([dump]) is Stage.ENGINE


@given(st.lists(st.text()))
def test_any_lines_are_answered(lines: list[str]) -> None:
    stage_of(lines)
