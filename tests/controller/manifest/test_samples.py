"""The files in manifests/ say what their comments say."""

from pathlib import Path

import pytest

from vllama.controller.manifest.load import load
from vllama.domain.spec import IdleSpec, SleepLevel
from vllama.domain.units import GIB

SAMPLES = Path(__file__).parents[3] / "manifests"


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_sample_loads(sample):
    assert load(sample, environ={}).models


def test_full():
    manifest = load(SAMPLES / "models.yaml", environ={"HOME": "/home/me", "MODELS_DIR": "/models"})
    small, coder, large, adapted, embedder = manifest.models.values()
    assert small.idle == IdleSpec(sleep_after_s=600.0, level=None, stop_after_s=21600.0)
    assert dict(small.launch.settings)["max_num_seqs"] == 256
    assert dict(coder.launch.settings)["gpu_memory_utilization"] == 0.85
    assert (large.device_count, large.devices, large.pin) == (2, (2, 3), True)
    assert dict(adapted.launch.settings)["lora_modules"] == ("support-desk=/home/me/adapters/support-desk",)
    assert embedder.launch.path == "/models/embedder"
    assert [server.max_concurrent_requests for server in manifest.servers] == [3, 5]


def test_flat():
    manifest = load(SAMPLES / "models-flat.yaml", environ={"VLLAMA_UNLOAD_MODE": "2", "VLLAMA_DEFAULT_DEVICE": "1"})
    chat = manifest.models["Qwen/Qwen3-4B-Instruct"]
    assert dict(chat.launch.settings)["max_num_seqs"] == 256
    assert chat.launch.extra_args == (("disable-log-requests", False),)
    assert chat.idle.level is SleepLevel.DISCARDED
    assert chat.devices == (1,)
    assert manifest.models["Qwen/Qwen3-32B"].device_count == 2
    assert manifest.models["Qwen/Qwen3-1.7B"].launch.settings == ()


def test_demo_does_not_fit_at_once_but_each_model_does():
    models = load(SAMPLES.parent / "vllama/cli/demo.yaml", environ={}).models.values()
    needs = [model.memory_bytes or 0 for model in models]
    assert max(needs) <= 24 * GIB
    assert sum(needs) > 2 * 24 * GIB
