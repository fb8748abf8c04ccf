"""How far an engine's load has come, from its log. Pure."""

import enum
import re
from collections.abc import Iterable, Sequence

from vllama.engine.logs import parse_line


class Stage(enum.StrEnum):
    """In words for people; in the order in which they come."""

    IMPORTING = "starting vLLM"
    ENGINE = "setting up the engine"
    DOWNLOADING = "downloading"
    WEIGHTS = "loading weights"
    COMPILING = "compiling"
    PROFILING = "measuring memory"
    KV_CACHE = "making the KV cache"
    GRAPHS = "capturing graphs"
    SERVING = "serving"


_STAGES: tuple[tuple[re.Pattern[str], Stage], ...] = tuple(
    (re.compile(pattern), stage)
    for pattern, stage in (
        (r"^non-default args: |^vLLM API server version|^Resolved architecture", Stage.IMPORTING),
        (r"^Initializing a V1 LLM engine|^world_size=\d+ rank=", Stage.ENGINE),
        (r"^(?:Fetching|Downloading|Downloaded) ", Stage.DOWNLOADING),
        (r"^Starting to load model|checkpoint shards: |^Loading weights|^Initializing model took", Stage.WEIGHTS),
        (r"^Dynamo bytecode transform|^Compiling a graph|^Compile and warming|^torch\.compile took", Stage.COMPILING),
        (r"^Model loading took|^Memory profiling takes|^Profiling CUDA graph memory", Stage.PROFILING),
        (r"^Available KV cache memory|KV cache size: |^(?:Explicitly|Auto) set \(.*for KV cache", Stage.KV_CACHE),
        (r"^Capturing CUDA graph|^Graph capturing finished", Stage.GRAPHS),
        (r"^Starting vLLM server on|^INFO:     Application startup complete", Stage.SERVING),
    )
)


# How much of a start is behind it when its log comes to this: of a cold one on a GPU, with the weights on a fast disk.
_PARTS = {
    Stage.IMPORTING: 0.05,
    Stage.ENGINE: 0.15,
    Stage.DOWNLOADING: 0.2,
    Stage.WEIGHTS: 0.25,
    Stage.COMPILING: 0.55,
    Stage.PROFILING: 0.6,
    Stage.KV_CACHE: 0.75,
    Stage.GRAPHS: 0.8,
    Stage.SERVING: 0.95,
}


def part_of(stage: Stage | None) -> float:
    """From 0 to 1. Rough: no more than whether half of it is over should hang on it."""
    return 0.0 if stage is None else _PARTS[stage]


# Said again and again by who waits for somebody else: a sign that nothing moves, and none of life.
_ONLY_WAITS = re.compile(
    r"^No available (?:shared memory broadcast )?block found in |^Waiting for \d+ local, \d+ remote core engine proc"
    r"|^Still waiting to acquire lock on "
)


def only_wait(lines: Sequence[str]) -> bool:
    """There are some, and none of them tells of anything but waiting."""
    return bool(lines) and all(_ONLY_WAITS.search(parse_line(line).text) for line in lines)


def stage_of(lines: Iterable[str], before: Stage | None = None) -> Stage | None:
    """The stage that the latest telling line speaks of; `before` where none does."""
    for line in lines:
        text = parse_line(line).text
        before = next((stage for pattern, stage in _STAGES if pattern.search(text)), before)
    return before
