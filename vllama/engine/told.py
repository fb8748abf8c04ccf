"""What somebody else told `vllm serve` on its command line: its flags by their long names. Pure."""

import json
import re
from collections.abc import Sequence

from vllama.engine.flags import flag_name

_SHORT = {
    "-tp": "tensor-parallel-size", "-pp": "pipeline-parallel-size", "-dp": "data-parallel-size", "-q": "quantization",
    "-ep": "enable-expert-parallel", "-dcp": "decode-context-parallel-size", "-cc": "compilation-config",
    "-sc": "speculative-config", "-ac": "attention-config",
}  # fmt: skip
# vllama looks after the first by itself, whatever they say; the second are keys of models.yaml.
LOOKED_AFTER = frozenset({"host", "port", "enable-sleep-mode", "disable-uvicorn-access-log"})
KEYS = frozenset({"gpu-memory-utilization", "tensor-parallel-size", "pipeline-parallel-size"})


def read_flags(words: Sequence[str]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Words before the first flag, and each flag with what follows it. An unknown short one stays as it is."""
    positional: list[str] = []
    flags: list[tuple[str, list[str]]] = []
    for word in words:
        if re.match(r"--?[A-Za-z]", word):
            spelled, equals, value = word.partition("=")
            name = flag_name(_SHORT.get(spelled, spelled)) if spelled in _SHORT or spelled[:2] == "--" else spelled
            flags.append((name, [value] if equals else []))
        elif flags:
            flags[-1][1].append(word)
        else:
            positional.append(word)
    return positional, flags


def lora_module(text: str) -> tuple[str, str]:
    """Name and path: `name=path`, or the same as JSON."""
    if text.startswith("{"):
        said = json.loads(text)
        return str(said["name"]), str(said["path"])
    name, _, path = text.partition("=")
    return name, path
