"""What is done to a model's files, and whether it is seen that they are others."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vllama.domain.spec import LaunchSpec, ModelSpec
from vllama.engine.revision import revision_of

NAME = "org/M"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Everything in it is old, so that the clock's ticks do not matter."""
    repository = tmp_path / "models--org--M"
    snapshot = repository / "snapshots" / "abc"
    for directory in (snapshot, repository / "refs", repository / "blobs"):
        directory.mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    for path in (*repository.rglob("*"), repository):
        os.utime(path, (1.7e9, 1.7e9))
    return repository


CHANGES: list[Callable[[Path], object]] = [
    lambda found: (found / "snapshots" / "abc" / "config.json").write_text('{"a": 1}'),
    lambda found: (found / "snapshots" / "abc" / "model.safetensors").write_bytes(b"x"),
    lambda found: (found / "snapshots" / "abc" / "config.json").unlink(),
    lambda found: (found / "blobs" / "0.incomplete").write_bytes(b"x"),
    lambda found: (found / "snapshots" / "def").mkdir(),
    lambda found: (found / "refs" / "main").write_text("def"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_in_a_cache_is_seen(repository: Path, change: Callable[[Path], object]) -> None:
    spec, hub = ModelSpec(model=NAME), repository.parent
    before = revision_of(spec, hub)
    assert before
    assert revision_of(spec, hub) == before
    change(repository)
    assert revision_of(spec, hub) != before


def test_a_directory_that_models_yaml_names(repository: Path) -> None:
    directory = repository / "snapshots" / "abc"
    spec = ModelSpec(model="mine", launch=LaunchSpec(path=str(directory)))
    before = revision_of(spec, None)
    assert before
    (directory / "chat_template.jinja").write_text("x")
    assert revision_of(spec, None) != before


def test_what_is_not_there_becomes_another_when_it_comes(tmp_path: Path) -> None:
    assert revision_of(ModelSpec(model=NAME), None) == ()
    assert revision_of(ModelSpec(model="a/b/c"), tmp_path) == ()
    assert revision_of(ModelSpec(model="mine", launch=LaunchSpec(path="/no/such\0thing")), tmp_path) == ()
    assert revision_of(ModelSpec(model=NAME), tmp_path) == ()
