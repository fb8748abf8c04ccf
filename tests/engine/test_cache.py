import json
import os
from pathlib import Path

import pytest

from vllama.engine.cache import CachedModel, find, find_on_disk, hub_directory, in_directory, models_on_disk, scan
from vllama.engine.kinds import Task

CONFIG = b'{"architectures": ["Qwen3ForCausalLM"]}'
FILES = {"config.json": CONFIG, "tokenizer.json": b"{}", "model.safetensors": b"12345"}
WITHOUT_WEIGHTS = {"config.json": CONFIG, "tokenizer.json": b"{}"}
MISTRALS = {"params.json": b'{"dim": 64}', "tekken.json": b"{}", "consolidated.safetensors": b"x"}
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
LOOKS = b'{"architectures": ["ViTForImageClassification"]}'
MODULES = json.dumps([
    {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]).encode()  # fmt: skip
BIN_INDEX = json.dumps({"weight_map": {"a": "b-1.bin", "b": "b-2.bin"}}).encode()
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
        repository=tmp_path / "models--Qwen--Qwen3-0.6B",
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
        (  # the index has not come yet
            WITHOUT_WEIGHTS | {"model-00002-of-00003.safetensors": b"x"},
            ("model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"),
        ),
        (
            WITHOUT_WEIGHTS | {"pytorch_model.bin.index.json": BIN_INDEX, "b-1.bin": b"x"},
            ("b-2.bin",),
        ),
        (
            WITHOUT_WEIGHTS | {"model.safetensors": LFS_POINTER},
            ("model.safetensors",),
        ),
        (FILES | {"modules.json": MODULES}, ("1_Pooling/config.json",)),
        (FILES | {"modules.json": MODULES, "1_Pooling/config.json": b"{}"}, ()),
        (MISTRALS, ()),
        ({"config.json": LOOKS, "model.safetensors": b"x"}, ()),
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
    assert (only(tmp_path).directory, only(tmp_path).path) == (old, None)
    (old / "model.safetensors").unlink()
    assert (only(tmp_path).directory, only(tmp_path).path) == (new, str(new))  # complete, where main is not
    (new / "model.safetensors").unlink()
    assert (only(tmp_path).directory, only(tmp_path).path) == (old, None)
    (old / "model.safetensors").write_bytes(b"12345")
    (new / "model.safetensors").write_bytes(b"12345")
    (tmp_path / "models--a--b" / "refs" / "main").write_text("gone")
    assert (only(tmp_path).directory, only(tmp_path).path) == (new, str(new))  # its id would mean another


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


def unfinished(hub: Path, model: str, *, at: float | None = None) -> Path:
    blob = hub / f"models--{model.replace('/', '--')}" / "blobs" / "0123456789abcdef.77aa.incomplete"
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(bytes(2048))
    if at is not None:
        os.utime(blob, (at, at))
    return blob


def test_a_download_that_goes_on_keeps_its_model_from_being_called(tmp_path: Path) -> None:
    put(tmp_path, "a/b", FILES)
    unfinished(tmp_path, "a/b")
    assert (only(tmp_path).missing, only(tmp_path).complete) == (("0123456789ab (2.0 KiB so far)",), False)
    assert only(tmp_path).arriving


def test_what_was_left_before_the_model_was_complete_is_no_download(tmp_path: Path) -> None:
    put(tmp_path, "a/b", FILES)
    unfinished(tmp_path, "a/b", at=1_000_000)
    assert only(tmp_path).complete


def test_a_download_of_a_newer_revision_leaves_the_one_in_use_callable(tmp_path: Path) -> None:
    used = put(tmp_path, "a/b", FILES)
    os.utime(used, (1_000_000, 1_000_000))
    (used.parent / "r2").mkdir()
    unfinished(tmp_path, "a/b")
    assert (only(tmp_path).directory, only(tmp_path).complete) == (used, True)


def test_only_a_download_begun_is_listed_with_all_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "models--a--b" / "snapshots" / "r1").mkdir(parents=True)
    unfinished(tmp_path, "a/b")
    assert only(tmp_path).missing == (
        "config.json", "tokenizer.json", "*.safetensors", "0123456789ab (2.0 KiB so far)"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("files", "note"),
    [
        ({"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"}, "LoRA"),
        ({"model_index.json": b"{}"}, "diffusers"),
        ({"x-Q4_K_M.gguf": b"x"}, "GGUF"),
    ],
)
def test_what_is_no_model_says_what_it_is(tmp_path: Path, files: dict[str, bytes], note: str) -> None:
    put(tmp_path, "a/b", files)
    assert note in only(tmp_path).note
    assert not only(tmp_path).complete


def in_modelscope(root: Path, name: str, files: dict[str, bytes] = FILES) -> Path:
    directory = root / name
    directory.mkdir(parents=True)
    for file, content in files.items():
        (directory / file).write_bytes(content)
    return directory


@pytest.mark.parametrize("layout", ["hub", "hub/models", "models", ""])
def test_modelscopes_cache_in_all_its_layouts(tmp_path: Path, layout: str) -> None:
    environ = {"MODELSCOPE_CACHE": str(tmp_path / "ms"), "HF_HUB_CACHE": str(tmp_path / "hf")}
    directory = in_modelscope(tmp_path / "ms" / layout, "Qwen/Qwen2___5-7B")
    (directory.parent / "Qwen2.5-7B").symlink_to(directory.name)
    in_modelscope(tmp_path / "ms" / layout, "datasets/x")
    (model,) = models_on_disk(environ)
    assert (model.model, model.complete) == ("Qwen/Qwen2.5-7B", True)
    assert model.path is not None
    assert Path(model.path).resolve() == directory
    assert find_on_disk(environ, "Qwen/Qwen2.5-7B") == model


def test_modelscopes_cache_is_in_the_home_directory(tmp_path: Path) -> None:
    in_modelscope(tmp_path / ".cache" / "modelscope" / "hub", "a/b")
    assert [model.model for model in models_on_disk({"HOME": str(tmp_path), "HF_HOME": str(tmp_path)})] == ["a/b"]


def test_what_modelscope_still_downloads_is_not_complete(tmp_path: Path) -> None:
    environ = {"MODELSCOPE_CACHE": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hf")}
    in_modelscope(tmp_path / "hub", "a/b")
    in_modelscope(tmp_path / "hub" / "._____temp", "a/b", {"more.safetensors": b"123"})
    (model,) = models_on_disk(environ)
    assert model.missing == ("more (3 B so far)",)


def test_of_a_model_in_two_caches_the_complete_one_counts(tmp_path: Path) -> None:
    environ = {"MODELSCOPE_CACHE": str(tmp_path / "ms"), "HF_HUB_CACHE": str(tmp_path / "hf")}
    snapshot = put(tmp_path / "hf", "a/b", WITHOUT_WEIGHTS)
    directory = in_modelscope(tmp_path / "ms", "a/b")
    assert find_on_disk(environ, "a/b") == models_on_disk(environ)[0]
    assert models_on_disk(environ)[0].path == str(directory)
    (snapshot / "model.safetensors").write_bytes(b"x")
    assert models_on_disk(environ)[0].path is None
    assert find_on_disk(environ, "a/b") == models_on_disk(environ)[0]


def test_a_directory_of_ones_own_is_looked_at_in_the_same_way(tmp_path: Path) -> None:
    directory = in_modelscope(tmp_path, "mine/embedder", WITHOUT_WEIGHTS)
    found = in_directory("our/embedder", directory)
    assert (found.missing, found.path, found.task) == (("*.safetensors",), str(directory), Task.EMBEDDING)
    assert not in_directory("x", tmp_path / "absent").complete
