"""How far an engine's load has come, from its log. Pure."""

import enum
import re
from collections.abc import Iterable

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


def stage_of(lines: Iterable[str], before: Stage | None = None) -> Stage | None:
    """The stage that the latest telling line speaks of; `before` where none does."""
    for line in lines:
        text = parse_line(line).text
        before = next((stage for pattern, stage in _STAGES if pattern.search(text)), before)
    return before
