"""The command line of `vllm serve`, as far as the simulated engine cares: what it does not know it tolerates."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vllama.domain.units import parse_bytes
from vllama.engine.flags import APPENDED

_ALIASES = {"-tp": "--tensor-parallel-size", "--device-memory-utilization": "--gpu-memory-utilization"}
_ALIASES |= {"--kv-cache-memory": "--kv-cache-memory-bytes"}
_OPTION = re.compile(r"-{1,2}[A-Za-z]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeCommand:
    model: str
    served_model_names: tuple[str, ...]
    host: str
    port: int
    uds: str | None
    api_keys: tuple[str, ...]
    gpu_memory_utilization: float | None  # None: not given, so only the engine's own need is checked
    kv_cache_bytes: int | None
    max_model_len: int | None
    max_num_seqs: int
    max_num_queued_reqs: int | None
    tensor_parallel_size: int
    shutdown_timeout_s: float
    sleep_mode: bool
    tool_parser: bool
    access_log: bool
    log_stats: bool
    lora_modules: Mapping[str, str]  # name -> path
    load_tracking: bool
    middleware: tuple[str, ...]  # import paths, the outermost last
    nodes: int
    node_rank: int
    headless: bool
    master_address: str
    master_port: int
    options: Mapping[str, tuple[str, ...]]  # all of them, by their long name


def parse_command(argv: Sequence[str]) -> ServeCommand:
    """`["serve", MODEL, "--port", "8000", ...]`. ValueError says what is wrong."""
    if not argv or argv[0] != "serve":
        raise ValueError("usage: python -m vllama.simulator.engine serve MODEL [--port N] [any flag of vllm serve]")
    positional, options = _split(_with_config(argv[1:]))
    model = (*positional, *options.get("--model", ()))
    if not model:
        raise ValueError("no model given: write `serve MODEL`")

    def last(name: str, default: str) -> str:
        return (options.get(name) or (default,))[-1]

    def number(name: str) -> int | None:
        return parse_count(last(name, "")) if name in options else None

    return ServeCommand(
        model=model[0],
        served_model_names=options.get("--served-model-name") or (model[0],),
        host=last("--host", "0.0.0.0"),  # noqa: S104 - what vLLM does without --host
        port=int(last("--port", "8000")),
        uds=last("--uds", "") or None,
        api_keys=options.get("--api-key", ()),
        gpu_memory_utilization=float(last("--gpu-memory-utilization", "0")) or None,
        kv_cache_bytes=parse_bytes(last("--kv-cache-memory-bytes", "0")) or None,
        max_model_len=number("--max-model-len"),
        max_num_seqs=number("--max-num-seqs") or 256,
        max_num_queued_reqs=number("--max-num-queued-reqs"),
        tensor_parallel_size=number("--tensor-parallel-size") or 1,
        shutdown_timeout_s=float(last("--shutdown-timeout", "0")),
        sleep_mode="--enable-sleep-mode" in options,
        tool_parser="--enable-auto-tool-choice" in options and "--tool-call-parser" in options,
        access_log="--disable-uvicorn-access-log" not in options,
        log_stats="--disable-log-stats" not in options,
        load_tracking="--enable-server-load-tracking" in options,
        lora_modules=dict(map(_lora_module, options.get("--lora-modules", ()))),
        middleware=options.get("--middleware", ()),
        nodes=number("--nnodes") or 1,
        node_rank=number("--node-rank") or 0,
        headless="--headless" in options,
        master_address=last("--master-addr", "127.0.0.1"),
        master_port=number("--master-port") or 29501,
        options=options,
    )


def _with_config(words: Sequence[str]) -> list[str]:
    """What the file of `--config` says stands behind the model, so that the command line wins."""
    if "--config" not in words:
        return list(words)
    at = words.index("--config")
    path = Path(words[at + 1]) if at + 1 < len(words) else Path()
    if path.suffix not in {".yaml", ".yml"}:
        raise ValueError(f"Config file must be of a yaml/yml type: --config {path}")
    try:
        config = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"Unable to read the config file at {path}: {error}") from error
    said = [word for name, value in config.items() for word in _of_config(f"--{name}", value)]
    begin = 1 if words and not _OPTION.match(words[0]) else 0
    return [*words[:begin], *said, *words[begin:at], *words[at + 2 :]]


def _of_config(flag: str, value: Any) -> list[str]:
    match value:
        case True:
            return [flag]
        case False | []:
            return []
        case list():
            return [flag, *map(str, value)]
        case dict():
            return [flag, json.dumps(value)]
        case _:
            return [flag, str(value)]


def _lora_module(text: str) -> tuple[str, str]:
    """`name=path`, or the same as JSON."""
    if text.startswith("{"):
        module = json.loads(text)
        return str(module["name"]), str(module["path"])
    name, _, path = text.partition("=")
    return name, path


def parse_count(text: str) -> int | None:
    """`4096`, `4k` (4000), `4K` (4096); None for `auto` and -1."""
    if text in {"auto", "-1"}:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgG]?)", text)
    if match is None:
        raise ValueError(f"{text!r} is not a count; write for example 4096 or 4K")
    scale = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(float(match[1]) * scale[match[2]])


def _split(words: Sequence[str]) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Words before the first option, and what follows each option up to the next one."""
    positional: list[str] = []
    options: dict[str, tuple[str, ...]] = {}
    name: str | None = None
    for word in words:
        if _OPTION.match(word):
            spelled, equals, value = word.partition("=")
            dashed = spelled.replace("_", "-")
            name = _ALIASES.get(dashed, dashed)
            before = options.get(name, ()) if name.removeprefix("--") in APPENDED else ()
            options[name] = (*before, value) if equals else before
        elif name is None:
            positional.append(word)
        else:
            options[name] = (*options[name], word)
    return tuple(positional), options
