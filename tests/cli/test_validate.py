import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Vllama = Callable[..., Result]

GOOD = "models:\n  org/a: {}\n  org/b: {aliases: [b]}\n"
BAD = "models:\n  org/a:\n    alias: [a]\n    gpu_memory_utilization: 1.5\n"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return tmp_path / "models.yaml"


def test_a_good_file_is_counted(vllama: Vllama, manifest: Path) -> None:
    manifest.write_text(GOOD)
    result = vllama("validate", manifest)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "ok: 2 models\n", "")


def test_servers_are_counted_too(vllama: Vllama, manifest: Path) -> None:
    manifest.write_text("models: {org/a: {}}\nservers: [{url: 'http://box:8000'}]\n")
    assert vllama("validate", manifest).stdout == "ok: 1 model, 1 server\n"


def test_the_default_is_the_file_of_the_configuration_directory(vllama: Vllama, manifest: Path) -> None:
    manifest.write_text(GOOD)
    assert vllama("validate", "--config-dir", manifest.parent).stdout == "ok: 2 models\n"


def test_every_mistake_has_its_line_and_the_code_is_1(vllama: Vllama, manifest: Path) -> None:
    manifest.write_text(BAD)
    result = vllama("validate", manifest)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{manifest}:3", f"{manifest}:4"]
    assert "aliases" in lines[0]
    assert result.stderr == f"error: {manifest} has 2 problems; a server would not apply it.\n"


def test_problems_as_json(vllama: Vllama, manifest: Path) -> None:
    manifest.write_text(BAD)
    result = vllama("validate", manifest, "-o", "json")
    answer = json.loads(result.stdout)
    assert result.exit_code == 1
    assert answer["ok"] is False
    assert [problem["line"] for problem in answer["problems"]] == [3, 4]


def test_a_good_file_as_json(vllama: Vllama, manifest: Path) -> None:
    manifest.write_text(GOOD)
    answer = json.loads(vllama("validate", manifest, "-o", "json").stdout)
    assert answer == {"ok": True, "file": str(manifest), "models": ["org/a", "org/b"], "problems": []}


def test_a_file_that_is_not_there_is_no_success(vllama: Vllama, manifest: Path) -> None:
    result = vllama("validate", manifest)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"error: there is no file {manifest}.\n"
