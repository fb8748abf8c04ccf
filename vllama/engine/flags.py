"""Flags and variables of vLLM that are vllama's own business, and how flags are spelled."""

from collections.abc import Iterable, Mapping

from vllama.domain.spec import Setting

_ADDRESS = "vllama gives every engine its address on the loopback interface and talks plain HTTP to it"
_KEYS = "engines listen on the loopback interface only; keys for clients belong to vllama"
_NODES = "vllama says how an engine spans machines, where it has to"
_COPIES = "vllama counts tensor_parallel_size x pipeline_parallel_size GPUs per engine; write `replicas` for copies"

_OWNED: dict[str, str] = {
    "model": "the name in models.yaml is the model; write `path` for a local directory",
    "model-tag": "the name in models.yaml is the model; write `path` for a local directory",
    "served-model-name": "vllama finds an engine by the name it serves; write `aliases` for further names",
    "host": _ADDRESS,
    "port": "write `port` as a key of the model",
    "uds": _ADDRESS,
    "grpc": _ADDRESS,
    "root-path": _ADDRESS,
    "ssl-keyfile": _ADDRESS,
    "ssl-certfile": _ADDRESS,
    "ssl-ca-certs": _ADDRESS,
    "ssl-cert-reqs": _ADDRESS,
    "ssl-ciphers": _ADDRESS,
    "enable-ssl-refresh": _ADDRESS,
    "api-key": _KEYS,
    "config": "write `config_file` as a key of the model; what it says is checked as this is",
    "shutdown-timeout": "vllama lets requests finish before it stops an engine; see `policy: {drain_deadline}`",
    "enable-sleep-mode": "vllama switches sleep mode on wherever the platform has it; only `false` can be said here",
    "gpu-memory-utilization": "write `gpu_memory_utilization` or `memory` as a key of the model",
    "device-memory-utilization": "write `gpu_memory_utilization` or `memory` as a key of the model",
    "tensor-parallel-size": "write `tensor_parallel_size` as a key of the model; it decides how many GPUs it gets",
    "pipeline-parallel-size": "write `pipeline_parallel_size` as a key of the model; it decides how many GPUs it gets",
    "prefill-context-parallel-size": _COPIES,
    "device-ids": "write `devices` as a key of the model",
    "headless": _NODES,
    "nnodes": _NODES,
    "node-rank": _NODES,
    "master-addr": _NODES,
    "master-port": _NODES,
    "data-parallel-size": _COPIES,
    "data-parallel-size-local": _COPIES,
    "data-parallel-rank": _COPIES,
    "data-parallel-start-rank": _COPIES,
    "data-parallel-address": _COPIES,
    "data-parallel-rpc-port": _COPIES,
    "data-parallel-backend": _COPIES,
    "data-parallel-hybrid-lb": _COPIES,
    "data-parallel-external-lb": _COPIES,
    "data-parallel-multi-port-external-lb": _COPIES,
    "data-parallel-supervisor-port": _COPIES,
}
OWNED_FLAGS: frozenset[str] = frozenset(_OWNED)

OWNED_ENV: frozenset[str] = frozenset({
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "SPT_NOENV",  # without it the engine's processes lose the environment they are recognised by
    "VLLM_SERVER_DEV_MODE",  # without it there is no /sleep
    "VLLM_API_KEY",  # with it the manager itself is refused
})  # fmt: skip

# Everything else that is true or false in vLLM can be negated as --no-NAME.
NOT_NEGATABLE: frozenset[str] = frozenset({
    "aggregate-engine-logging",
    "disable-log-requests",
    "disable-log-stats",
    "grpc",
    "headless",
    "hf-token",
})  # fmt: skip
APPENDED: frozenset[str] = frozenset({"middleware"})  # one value per flag, the flag repeated
JSON_LISTS: frozenset[str] = frozenset({"allowed-origins", "allowed-methods", "allowed-headers"})


def flag_name(name: str) -> str:
    """`max_num_seqs` and `--max-num-seqs` as `max-num-seqs`; what follows a dot is a JSON key and stays."""
    head, dot, rest = name.lstrip("-").partition(".")
    return head.replace("_", "-") + dot + rest


def refuse_owned(extra_args: Iterable[tuple[str, Setting]], *, where: str = "extra_args: ") -> str | None:
    """What is wrong with a model's extra_args, for a person; None: nothing in them is vllama's own."""
    for name, value in extra_args:
        flag = flag_name(name).partition(".")[0]
        if flag.removeprefix("no-") == "enable-sleep-mode" and value is flag.startswith("no-"):
            continue
        owned = _owned(flag)
        if owned is not None:
            return f"{where}{name!r} is not allowed here: {_OWNED[owned]}."
    return None


def _owned(flag: str) -> str | None:
    flag = flag.removeprefix("no-")
    if flag in _OWNED:
        return flag
    # argparse takes any unambiguous beginning of a flag for the flag: `--hos` is `--host`.
    return next((name for name in _OWNED if len(flag) > 2 and name.startswith(flag)), None)


def refuse_owned_env(env: Mapping[str, str]) -> str | None:
    """What is wrong with a model's `env`, for a person; None: nothing in it is vllama's own."""
    for name in env:
        if owned_env(name):
            return f"env: {name} is not allowed here: vllama sets it for every engine, or keeps it from them."
    return None


def owned_env(name: str) -> bool:
    """VLLAMA_SIM_* is for the engine simulator and may be set; the other VLLAMA_ names carry an engine's identity."""
    return name in OWNED_ENV or (name.startswith("VLLAMA_") and not name.startswith("VLLAMA_SIM_"))
