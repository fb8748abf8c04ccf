from pathlib import Path

import pytest

from vllama.simulator.faults import Faults
from vllama.simulator.settings import Task, read_settings


def test_defaults() -> None:
    settings = read_settings({}, model="some/model")
    assert (settings.devices, settings.visible_devices) == (None, ())
    assert (settings.memory_bytes, settings.residue_bytes) == (1 << 30, 400 << 20)
    assert (settings.load_s, settings.sleep_s, settings.wake_s, settings.token_s) == (1.0, 0.1, 0.1, 0.02)
    assert (settings.task, settings.max_model_len, settings.faults) == (Task.GENERATE, 4096, Faults())
    assert not settings.dev_mode


def test_everything_can_be_set() -> None:
    environment = {
        "VLLAMA_SIM_DEVICES": "/somewhere",
        "CUDA_VISIBLE_DEVICES": "1,0",
        "VLLAMA_SIM_MEMORY": "3GiB",
        "VLLAMA_SIM_LOAD_S": "500ms",
        "VLLAMA_SIM_TASK": "embed",
        "VLLAMA_SIM_FAULTS": "hang_at_load",
        "VLLM_SERVER_DEV_MODE": "1",
    }
    settings = read_settings(environment, model="some/model")
    assert (settings.devices, settings.visible_devices) == (Path("/somewhere"), (1, 0))
    assert (settings.memory_bytes, settings.load_s, settings.task) == (3 << 30, 0.5, Task.EMBED)
    assert settings.faults.hang_at_load
    assert settings.dev_mode


@pytest.mark.parametrize(
    ("model", "task"),
    [("acme/Embed-small", Task.EMBED), ("acme/reranker-v2", Task.CLASSIFY), ("acme/chat", Task.GENERATE)],
)
def test_the_task_is_guessed_from_the_name(model: str, task: Task) -> None:
    assert read_settings({}, model=model).task is task


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VLLAMA_SIM_MEMORY", "much"),
        ("VLLAMA_SIM_LOAD_S", "soon"),
        ("VLLAMA_SIM_TASK", "cook"),
        ("CUDA_VISIBLE_DEVICES", "GPU-1"),
        ("VLLAMA_SIM_FAULTS", "explode"),
        ("VLLAMA_SIM_MAX_MODEL_LEN", "long"),
    ],
)
def test_a_bad_value_is_named(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{name}={value}: "):
        read_settings({name: value}, model="m")
