"""A model and a Start, as the command line and environment of `vllm serve`. Pure."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from pathlib import Path

from vllama.domain.action import Start
from vllama.domain.spec import LaunchSpec, ModelSpec, Scalar, Setting
from vllama.engine.door import Door
from vllama.engine.flags import (
    APPENDED,
    JSON_LISTS,
    NOT_NEGATABLE,
    OWNED_FLAGS,
    flag_name,
    owned_env,
)
from vllama.engine.platform import Platform

# vLLM fetches what any client names, from wherever this machine reaches (CVE-2025-6242), and takes an empty list for
# no limit. The name that cannot be anybody's host (RFC 6761) is what a client reads when it tries.
NO_MEDIA_DOMAIN = "media-urls-are-off.invalid"
_MEDIA_DOMAINS = "allowed-media-domains"
_PARALLEL = frozenset({"tensor-parallel-size", "pipeline-parallel-size"})

# Of the manager's own environment, what an engine must not take for its own: keys that would lock the manager out,
# the manager's place under systemd or torchrun, and VLLM_PORT, which Kubernetes sets to a URL
# in every pod when a Service is called `vllm`.
_NOT_INHERITED = frozenset({
    "VLLM_API_KEY", "VLLM_PORT", "CUDA_VISIBLE_DEVICES",
    "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "MAINPID",
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCommand:
    """`env` is the whole environment, sorted by name."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """Which of an engine's nodes this is: `index` of `count`, and where rank 0 waits for the others.

    `devices` counts those of all of them.
    """

    index: int
    count: int
    devices: int
    master_address: str
    master_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Where an engine stands among several nodes. `door`: other hosts reach it; None: it listens on loopback, and wants
    no key. `rank`: it is a part of one that spans nodes; None: it is whole.
    """

    door: Door | None = None
    rank: Rank | None = None


ALONE = Seat()


def serve_command(
    *,
    spec: ModelSpec,
    action: Start,
    port: int,
    executable: tuple[str, ...],
    platform: Platform,
    cache_root: Path,
    parent_env: Mapping[str, str],
    tag: Mapping[str, str],
    door: Door | None = None,
    rank: Rank | None = None,
) -> EngineCommand:
    """The command that starts `spec` as `action` says.

    `tag` is the identity that an engine carries in its environment. `cache_root` is where vLLM keeps what it
    compiled, unless the parent's or the model's environment says otherwise; it must survive restarts. `door`: of an
    engine that other hosts reach; None: it listens on loopback, and wants no key. `rank`: it is a part of one that
    spans nodes, and `action` names the devices of this one.
    """
    argv = (
        *executable,
        "serve",
        spec.launch.path or spec.served_name,
        *(() if spec.launch.config_file is None else ("--config", spec.launch.config_file)),
        "--served-model-name",
        spec.served_name,
        "--host",
        "127.0.0.1" if door is None else door.host,
        "--port",
        str(port),
        *_ours(spec.launch, action, platform, devices=len(action.devices) if rank is None else rank.devices),
        *(() if rank is None else _rank(rank)),
        *_denied(spec.launch),
        *_settings(spec.launch),
        *(part for name, value in _extra(spec.launch) for part in _flag(name, value)),
        *(() if door is None else door.flags),
    )
    env = _environment(spec.launch, action, platform, cache_root, parent_env) | dict(tag)
    if door is not None:
        env |= door.environment(env)
    if door is not None and rank is not None:
        env.setdefault("VLLM_HOST_IP", door.host)  # where the other ranks reach this one
    return EngineCommand(argv=argv, env=tuple(sorted(env.items())))


def _rank(rank: Rank) -> Iterator[str]:
    """VLLM's own processes on every node: by itself it would ask for Ray. Only rank 0 answers requests."""
    yield from ("--distributed-executor-backend", "mp")
    yield from ("--nnodes", str(rank.count), "--node-rank", str(rank.index))
    yield from ("--master-addr", rank.master_address, "--master-port", str(rank.master_port))
    if rank.index:
        yield "--headless"


def _ours(launch: LaunchSpec, action: Start, platform: Platform, *, devices: int) -> Iterator[str]:
    said = {flag_name(name) for name, _ in launch.said}
    if platform is Platform.CUDA and not _sleep_mode_declined(launch):
        yield "--enable-sleep-mode"
    yield from ("--gpu-memory-utilization", _rounded_down(action.gpu_memory_utilization))
    if action.kv_cache_bytes is not None and "kv-cache-memory-bytes" not in said:
        yield from ("--kv-cache-memory-bytes", str(action.kv_cache_bytes))
    # A list of devices without a word about parallelism means one engine across all of them.
    if devices > 1 and not said & _PARALLEL:
        yield from ("--tensor-parallel-size", str(devices))
    if "disable-uvicorn-access-log" not in said:
        yield "--disable-uvicorn-access-log"
    if _MEDIA_DOMAINS not in said or launch.setting("allowed_media_domains") == "none":
        yield from (f"--{_MEDIA_DOMAINS}", NO_MEDIA_DOMAIN)


def _denied(launch: LaunchSpec) -> Iterator[str]:
    """What the config file says is false: vLLM drops that, as it looks for --no-NAME before it knows its flags."""
    above = {flag_name(name) for name, _ in (*launch.settings, *launch.extra_args)}
    for name, value in launch.config:
        if value is False and flag_name(name) not in above and not _about_sleep_mode(name):
            yield from _flag(flag_name(name), value)


def _settings(launch: LaunchSpec) -> Iterator[str]:
    for name, value in launch.settings:
        if flag_name(name) == _MEDIA_DOMAINS and value in {"any", "none"}:
            continue
        if flag_name(name) not in OWNED_FLAGS - _PARALLEL:
            yield from _flag(flag_name(name), value)


def _extra(launch: LaunchSpec) -> Iterable[tuple[str, Setting]]:
    return ((flag_name(name), value) for name, value in launch.extra_args if not _about_sleep_mode(name))


def _about_sleep_mode(name: str) -> bool:
    return flag_name(name).removeprefix("no-") == "enable-sleep-mode"


def _sleep_mode_declined(launch: LaunchSpec) -> bool:
    """`enable-sleep-mode: false`, or `no-enable-sleep-mode: true`."""
    return any(_about_sleep_mode(name) and value is flag_name(name).startswith("no-") for name, value in launch.said)


def _flag(name: str, value: Setting) -> tuple[str, ...]:
    flag = f"--{name}"
    match value:
        case True:
            return (flag,)
        case False:
            return () if name in NOT_NEGATABLE or name.startswith("no-") else (f"--no-{name}",)
        case tuple() if name in JSON_LISTS:
            return (flag, json.dumps(list(value)))
        case tuple() if name in APPENDED:
            return tuple(part for item in value for part in _flag(name, item))
        case tuple():
            return (flag, *map(_text, value)) if value else ()
        case _:
            # A value that begins with a dash would be taken for a flag.
            text = _text(value)
            return (f"{flag}={text}",) if text.startswith("-") else (flag, text)


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _rounded_down(utilization: float) -> str:
    """Four decimals, never more than was planned: vLLM takes this share of the total, to the byte."""
    steps = Decimal(repr(utilization)).quantize(Decimal("0.0001"), ROUND_DOWN)
    return f"{max(steps, Decimal('0.0001')).normalize():f}"


def _environment(
    launch: LaunchSpec, action: Start, platform: Platform, cache_root: Path, parent_env: Mapping[str, str]
) -> dict[str, str]:
    env = {name: value for name, value in parent_env.items() if name not in _NOT_INHERITED and not owned_env(name)}
    env.setdefault("VLLM_CACHE_ROOT", str(cache_root))
    # vllama watches a load's progress and has its own deadline; vLLM's 10 minutes would end a slow disk's load.
    env.setdefault("VLLM_ENGINE_READY_TIMEOUT_S", "7200")
    if "VLLAMA_TRANSFORMERS_CACHE" in parent_env:
        env["HF_HUB_CACHE"] = parent_env["VLLAMA_TRANSFORMERS_CACHE"]
    env |= {"VLLM_NO_USAGE_STATS": "1", "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0"}
    if len(action.devices) > 1:
        env["VLLM_SKIP_P2P_CHECK"] = "1"
    env |= {name: value for name, value in launch.env if not owned_env(name)}
    env |= {"SPT_NOENV": "1", "VLLM_SERVER_DEV_MODE": "1"}
    if platform is Platform.CUDA:
        # Indices in the driver's order: vLLM does not take UUIDs.
        env |= {"CUDA_VISIBLE_DEVICES": ",".join(map(str, action.devices)), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return env
