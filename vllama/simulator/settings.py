"""What a simulated engine is told through its environment (models.yaml's `env:`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from vllama.domain.units import parse_bytes, parse_duration
from vllama.simulator.faults import Faults, parse_faults

T = TypeVar("T")


class Task(StrEnum):
    GENERATE = "generate"
    EMBED = "embed"
    CLASSIFY = "classify"
    TRANSCRIBE = "transcription"  # as Whisper
    LISTEN = "realtime"  # as Voxtral: transcribes, live too, and generates


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Memory is per device. Without `devices` the engine holds no device memory, as on a CPU."""

    devices: Path | None
    visible_devices: tuple[int, ...]  # empty: the first ones, as many as --tensor-parallel-size says
    memory_bytes: int
    residue_bytes: int
    load_s: float
    sleep_s: float
    wake_s: float
    token_s: float
    dead_s: float  # how long the API server outlives its core
    task: Task
    max_model_len: int
    faults: Faults
    api_key: str | None
    dev_mode: bool
    keep_alive_on_engine_death: bool
    responses_store: bool
    served: Path | None  # a file that the X-Request-Id of every inference request is added to as it arrives


def read_settings(environment: Mapping[str, str], *, model: str) -> Settings:
    """ValueError names the variable that cannot be read."""

    def value(name: str, parse: Callable[[str], T], default: str) -> T:
        text = environment.get(name, default)
        try:
            return parse(text)
        except ValueError as error:
            raise ValueError(f"{name}={text}: {error}") from error

    directory = environment.get("VLLAMA_SIM_DEVICES")
    return Settings(
        devices=Path(directory) if directory else None,
        visible_devices=value("CUDA_VISIBLE_DEVICES", _parse_indices, ""),
        memory_bytes=value("VLLAMA_SIM_MEMORY", parse_bytes, "1GiB"),
        residue_bytes=value("VLLAMA_SIM_RESIDUE", parse_bytes, "400MiB"),
        load_s=value("VLLAMA_SIM_LOAD_S", parse_duration, "1.0"),
        sleep_s=value("VLLAMA_SIM_SLEEP_S", parse_duration, "0.1"),
        wake_s=value("VLLAMA_SIM_WAKE_S", parse_duration, "0.1"),
        token_s=value("VLLAMA_SIM_TOKEN_S", parse_duration, "0.02"),
        dead_s=value("VLLAMA_SIM_DEAD_S", parse_duration, "0.5"),
        task=value("VLLAMA_SIM_TASK", Task, _guess_task(model)),
        max_model_len=value("VLLAMA_SIM_MAX_MODEL_LEN", int, "4096"),
        faults=value("VLLAMA_SIM_FAULTS", parse_faults, ""),
        api_key=environment.get("VLLM_API_KEY"),
        dev_mode=_is_set(environment, "VLLM_SERVER_DEV_MODE"),
        keep_alive_on_engine_death=_is_set(environment, "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH"),
        responses_store=_is_set(environment, "VLLM_ENABLE_RESPONSES_API_STORE"),
        served=Path(served) if (served := environment.get("VLLAMA_SIM_SERVED")) else None,
    )


def _parse_indices(text: str) -> tuple[int, ...]:
    return tuple(int(index) for index in text.split(",") if index.strip())


def _is_set(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "0") not in {"", "0"}


def _guess_task(model: str) -> str:
    name = model.lower()
    parts = {"embed": Task.EMBED, "rerank": Task.CLASSIFY, "whisper": Task.TRANSCRIBE, "voxtral": Task.LISTEN}
    return next((task for part, task in parts.items() if part in name), Task.GENERATE)
