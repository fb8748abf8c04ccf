import os
from pathlib import Path

import pytest

from tests.engine.test_cache import FILES, in_modelscope, put, unfinished
from vllama.engine.cache import find, in_directory, models_on_disk
from vllama.engine.removal import freed_bytes, remove


def size_of(directory: Path) -> int:
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file() and not path.is_symlink())


@pytest.mark.parametrize("half", [False, True])
def test_a_model_goes_with_all_its_revisions_and_remains(tmp_path: Path, half: bool) -> None:
    put(tmp_path, "a/b", {"config.json": b"{}"} if half else FILES)
    put(tmp_path, "a/b", FILES | {"model.safetensors": bytes(100_000)}, revision="r2", main=None)
    put(tmp_path, "a/other", FILES)
    unfinished(tmp_path, "a/b")
    locks = tmp_path / ".locks" / "models--a--b"
    locks.mkdir(parents=True)
    model = find(tmp_path, "a/b")
    assert model is not None
    assert model.repository is not None
    assert freed_bytes(model.repository) == size_of(model.repository) > 100_000
    remove(model, tmp_path)
    assert not model.repository.exists()
    assert not locks.exists()
    assert find(tmp_path, "a/b") is None
    other = find(tmp_path, "a/other")
    assert other is not None
    assert other.complete


def test_a_file_that_something_else_keeps_is_not_counted(tmp_path: Path) -> None:
    put(tmp_path, "a/b", FILES)
    repository = tmp_path / "models--a--b"
    before = freed_bytes(repository)
    blob = next(path for path in (repository / "blobs").iterdir() if path.name.endswith("safetensors"))
    os.link(blob, tmp_path / "kept")
    assert freed_bytes(repository) == before - blob.stat().st_size


def test_a_model_of_modelscopes_cache_goes_with_its_other_name(tmp_path: Path) -> None:
    environ = {"MODELSCOPE_CACHE": str(tmp_path / "ms"), "HF_HUB_CACHE": str(tmp_path / "hf")}
    directory = in_modelscope(tmp_path / "ms" / "models", "Qwen/Qwen2___5-7B")
    (directory.parent / "Qwen2.5-7B").symlink_to(directory)
    (model,) = models_on_disk(environ)
    remove(model, tmp_path / "hf")
    assert list(directory.parent.iterdir()) == []
    assert models_on_disk(environ) == ()


def test_of_what_is_only_linked_the_link_goes(tmp_path: Path) -> None:
    environ = {"MODELSCOPE_CACHE": str(tmp_path / "ms"), "HF_HUB_CACHE": str(tmp_path / "hf")}
    mine = in_modelscope(tmp_path / "elsewhere", "x/y")
    owner = tmp_path / "ms" / "models" / "a"
    owner.mkdir(parents=True)
    (owner / "b").symlink_to(mine)
    (model,) = models_on_disk(environ)
    assert (model.model, model.complete) == ("a/b", True)
    remove(model, tmp_path / "hf")
    assert list(owner.iterdir()) == []
    assert (mine / "config.json").exists()


def test_a_directory_of_ones_own_is_never_removed(tmp_path: Path) -> None:
    directory = in_modelscope(tmp_path, "a/b")
    with pytest.raises(ValueError, match="somebody's own"):
        remove(in_directory("a/b", directory), tmp_path)
    assert directory.exists()
