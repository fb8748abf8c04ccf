"""Which files an engine of vLLM is started on."""

from pathlib import Path

import pytest

from tests.engine.test_cache import unfinished
from vllama.domain.action import Start
from vllama.domain.spec import LaunchSpec, ModelSpec
from vllama.engine.platform import Platform
from vllama.runtime.local.launcher import VllmLauncher

FILES = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"x"}
START = Start(
    model="a/b", spec_hash="h", node="local", devices=(0,), memory_bytes=1 << 30, gpu_memory_utilization=0.5,
)  # fmt: skip


@pytest.fixture
def launcher(tmp_path: Path) -> VllmLauncher:
    vllm = tmp_path / "vllm"
    vllm.write_text("#!/bin/sh\n")
    vllm.chmod(0o755)
    environ = {"VLLAMA_VLLM": str(vllm), "HF_HOME": str(tmp_path / "hf"), "MODELSCOPE_CACHE": str(tmp_path / "ms")}
    return VllmLauncher(platform=Platform.CUDA, cache_root=tmp_path, parent_env=environ)


def served(launcher: VllmLauncher, **launch: object) -> str:
    spec = ModelSpec(model="a/b", launch=LaunchSpec(**launch))
    return launcher.command(spec, START, port=1234, tag=("TAG", "x")).argv[2]


def put(directory: Path) -> Path:
    directory.mkdir(parents=True)
    for name, content in FILES.items():
        (directory / name).write_bytes(content)
    return directory


def in_hub(hub: Path, *, main: bool) -> Path:
    snapshot = put(hub / "models--a--b" / "snapshots" / "r1")
    if main:
        (snapshot.parents[1] / "refs").mkdir()
        (snapshot.parents[1] / "refs" / "main").write_text("r1")
    return snapshot


def test_a_model_of_the_hub_is_named_by_its_id(launcher: VllmLauncher, tmp_path: Path) -> None:
    assert served(launcher) == "a/b"  # not there: vLLM fetches it
    in_hub(tmp_path / "hf" / "hub", main=True)
    assert served(launcher) == "a/b"


def test_one_whose_id_would_mean_another_revision_by_its_directory(launcher: VllmLauncher, tmp_path: Path) -> None:
    snapshot = in_hub(tmp_path / "hf" / "hub", main=False)
    assert served(launcher) == str(snapshot)


def test_a_model_of_modelscopes_cache_by_its_directory(launcher: VllmLauncher, tmp_path: Path) -> None:
    directory = put(tmp_path / "ms" / "models" / "a" / "b")
    assert served(launcher) == str(directory)
    assert launcher.cached_models() == ("a/b",)
    (directory / "model.safetensors").unlink()
    assert served(launcher) == "a/b"
    assert launcher.cached_models() == ()


def test_a_model_that_was_complete_stays_callable_while_more_of_it_comes(
    launcher: VllmLauncher, tmp_path: Path
) -> None:
    hub = tmp_path / "hf" / "hub"
    in_hub(hub, main=True)
    assert launcher.cached_models() == ("a/b",)
    unfinished(hub, "a/b")
    assert launcher.cached_models() == ("a/b",)
    begun = VllmLauncher(platform=Platform.CUDA, cache_root=tmp_path, parent_env={"HF_HUB_CACHE": str(hub)})
    assert begun.cached_models() == ()


def test_what_models_yaml_says_is_left_as_it_is(launcher: VllmLauncher, tmp_path: Path) -> None:
    put(tmp_path / "ms" / "models" / "a" / "b")
    assert served(launcher, path="/srv/mine") == "/srv/mine"
    assert served(launcher, settings=(("revision", "v2"),)) == "a/b"
    assert served(launcher, settings=(("download_dir", "/srv"),)) == "a/b"
