import json
import os
from pathlib import Path

import pytest

from vllama.engine.cache import CachedModel, Task, find, hub_directory, scan

CONFIG = b'{"architectures": ["Qwen3ForCausalLM"]}'
FILES = {"config.json": CONFIG, "tokenizer.json": b"{}", "model.safetensors": b"12345"}
INDEX = json.dumps({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}).encode()


def put(hub: Path, model: str, files: dict[str, bytes], *, revision: str = "r1", main: str | None = "r1") -> Path:
    """As huggingface_hub lays it out: blobs, and a snapshot of links to them."""
    repository = hub / f"models--{model.replace('/', '--')}"
    snapshot = repository / "snapshots" / revision
    for name, content in files.items():
        blob = repository / "blobs" / f"{revision}-{name.replace('/', '-')}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blob)
    if main is not None:
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(main)
    return snapshot


def only(hub: Path) -> CachedModel:
    (model,) = scan(hub)
    return model


def test_a_whole_model(tmp_path: Path) -> None:
    snapshot = put(tmp_path, "Qwen/Qwen3-0.6B", FILES)
    assert only(tmp_path) == CachedModel(
        model="Qwen/Qwen3-0.6B",
        directory=snapshot,
        complete=True,
        missing=(),
        size_bytes=len(CONFIG) + 2 + 5,
        task=Task.CHAT,
    )
    assert find(tmp_path, "Qwen/Qwen3-0.6B") == only(tmp_path)


def test_models_are_sorted_and_others_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, "z/z", FILES)
    put(tmp_path, "gpt2", FILES)
    (tmp_path / "datasets--a--b" / "snapshots" / "x").mkdir(parents=True)
    (tmp_path / "models--empty--one" / "blobs").mkdir(parents=True)
    (tmp_path / "models--a--file").write_bytes(b"")
    (tmp_path / "version.txt").write_text("1")
    assert [model.model for model in scan(tmp_path)] == ["gpt2", "z/z"]


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        ({k: v for k, v in FILES.items() if k != "config.json"}, ("config.json",)),
        (FILES | {"config.json": b"{"}, ("config.json",)),
        ({k: v for k, v in FILES.items() if k != "tokenizer.json"}, ("tokenizer.json",)),
        ({"config.json": CONFIG, "tokenizer.model": b"x"}, ("*.safetensors",)),
        ({"config.json": CONFIG, "vocab.txt": b"x", "pytorch_model.bin": b"x"}, ()),
        (
            FILES | {"model.safetensors.index.json": INDEX, "m-1.safetensors": b"x"},
            ("m-2.safetensors",),
        ),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, files: dict[str, bytes], missing: tuple[str, ...]) -> None:
    put(tmp_path, "a/b", files)
    assert (only(tmp_path).missing, only(tmp_path).complete) == (missing, not missing)


def test_a_link_without_its_blob_is_a_missing_file(tmp_path: Path) -> None:
    snapshot = put(tmp_path, "a/b", FILES | {"generation_config.json": b"{}"})
    for name in ("model.safetensors", "generation_config.json"):
        (snapshot / name).resolve().unlink()
    assert set(only(tmp_path).missing) == {"model.safetensors", "generation_config.json"}
    assert only(tmp_path).size_bytes == len(CONFIG) + 2


def test_the_revision_is_that_of_main_else_the_newest(tmp_path: Path) -> None:
    old = put(tmp_path, "a/b", FILES, revision="old", main="old")
    new = put(tmp_path, "a/b", FILES, revision="new", main=None)
    os.utime(old, (1, 1))
    assert only(tmp_path).directory == old
    (tmp_path / "models--a--b" / "refs" / "main").write_text("gone")
    assert only(tmp_path).directory == new


@pytest.mark.parametrize(
    ("model", "files", "task"),
    [
        ("BAAI/bge-reranker-v2-m3", {}, Task.RERANK),
        ("a/b", {"config.json": b'{"architectures": ["BertForSequenceClassification"]}'}, Task.RERANK),
        ("Qwen/Qwen3-Embedding-0.6B", {}, Task.EMBEDDING),
        ("a/b", {"modules.json": b"[]"}, Task.EMBEDDING),
        ("a/b", {"config.json": b'{"architectures": ["BertModel"]}'}, Task.EMBEDDING),
        ("a/b", {"config.json": b'{"architectures": 3}'}, Task.CHAT),
        ("a/b", {}, Task.CHAT),
    ],
)
def test_the_task_is_guessed(tmp_path: Path, model: str, files: dict[str, bytes], task: Task) -> None:
    put(tmp_path, model, FILES | files)
    assert only(tmp_path).task is task


@pytest.mark.parametrize("model", ["absent/model", "", "a/../b", "../x", "/etc", "a/b/c", "a\0b"])
def test_what_is_not_there_is_not_found(tmp_path: Path, model: str) -> None:
    put(tmp_path, "a/b", FILES)
    assert find(tmp_path, model) is None


def test_a_cache_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert scan(tmp_path / "absent") == ()


@pytest.mark.parametrize(
    ("environ", "hub"),
    [
        ({"VLLAMA_TRANSFORMERS_CACHE": "/v", "HF_HUB_CACHE": "/c", "HF_HOME": "/h"}, "/v"),
        ({"HF_HUB_CACHE": "/c", "HF_HOME": "/h"}, "/c"),
        ({"HF_HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/h/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({}, str(Path("~/.cache/huggingface/hub").expanduser())),
    ],
)
def test_where_the_cache_is(environ: dict[str, str], hub: str) -> None:
    assert hub_directory(environ) == Path(hub)
