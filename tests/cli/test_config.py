"""Settings: .env, the environment, and what `vllama config` says of both."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.golden import matches
from vllama.cli import env_file

Vllama = Callable[..., Result]
GOLDEN = Path(__file__).parent / "render" / "golden"


def take(tmp_path: Path, text: str, environ: dict[str, str]) -> list[str]:
    (tmp_path / ".env").write_text(text)
    return env_file.take(tmp_path / ".env", environ)


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    environ = {"VLLAMA_PORT": "1"}
    assert (
        take(tmp_path, "VLLAMA_PORT=2\nVLLAMA_HOST='::1' # loopback\nexport HF_HOME=/hub\nPATH=/evil\n", environ) == []
    )
    assert environ == {"VLLAMA_PORT": "1", "VLLAMA_HOST": "::1", "HF_HOME": "/hub"}


def test_no_file_says_nothing_and_a_broken_one_is_said(tmp_path: Path) -> None:
    environ: dict[str, str] = {}
    assert env_file.take(tmp_path / ".env", environ) == []
    (tmp_path / ".env").write_bytes(b"VLLAMA_HOST=\xff\xfe\n")
    (note,) = env_file.take(tmp_path / ".env", environ)
    assert "cannot be read" in note
    assert environ == {}


def test_a_file_cannot_choose_what_is_run(tmp_path: Path) -> None:
    environ: dict[str, str] = {}
    (note,) = take(tmp_path, "VLLAMA_VLLM=./evil\n", environ)
    assert "VLLAMA_VLLM" in note
    assert environ == {}


@pytest.mark.parametrize("name", ["VLLAMA_SERVER", "VLLAMA_CONFIG_DIR"])
def test_a_key_of_the_environment_is_not_shown_to_whom_a_file_names(tmp_path: Path, name: str) -> None:
    environ = {"VLLAMA_API_KEY": "mine"}
    (note,) = take(tmp_path, f"{name}=elsewhere\n", environ)
    assert "is not shown there" in note
    assert environ == {name: "elsewhere"}
    environ = {"VLLAMA_API_KEY": "mine"}
    take(tmp_path, f"{name}=elsewhere\nVLLAMA_API_KEY=theirs\n", environ)
    assert environ["VLLAMA_API_KEY"] == "theirs"
    environ = {"VLLAMA_API_KEY": "mine", name: "here"}
    assert take(tmp_path, f"{name}=elsewhere\n", environ) == []
    assert environ["VLLAMA_API_KEY"] == "mine"


def test_config_tells_where_each_setting_comes_from(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("VLLAMA_PORT=4242\nVLLAMA_UNLOAD_MODE=2\nVLLAMA_API_KEY=sk-secret\n")
    (tmp_path / "models.yaml").write_text("defaults: {idle: {sleep_after: 10m}}\nmodels: {}\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VLLAMA_", "HF_"))}
    environ = {**kept, "VLLAMA_CONFIG_DIR": str(tmp_path), "VLLAMA_UNLOAD_TIMEOUT": "60", "HF_HOME": "/hf"}
    done = subprocess.run(
        [sys.executable, "-m", "vllama", "config", "-o", "json"], cwd=tmp_path, env=environ, text=True, check=True,
        capture_output=True,
    )  # fmt: skip
    rows = {row["name"]: (row["value"], row["from"]) for row in json.loads(done.stdout)}
    assert rows["VLLAMA_PORT"] == ("4242", ".env")
    assert rows["VLLAMA_UNLOAD_MODE"] == ("2", ".env")
    assert rows["VLLAMA_UNLOAD_TIMEOUT"] == ("10m", "models.yaml")
    assert rows["VLLAMA_API_KEY"] == ("***", ".env")
    assert rows["HF_HOME"] == ("/hf", "environment")
    assert rows["VLLAMA_TRANSFORMERS_CACHE"] == ("/hf/hub", "default")
    assert rows["VLLAMA_HOST"] == ("0.0.0.0", "default")
    assert rows["VLLAMA_CONFIG_DIR"] == (str(tmp_path), "environment")


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_reads_as_its_golden_file(vllama: Vllama, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    for name in [name for name in os.environ if name.startswith(("VLLAMA_", "HF_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("HF_HOME", f"/data/{'deep/' * 12}huggingface")
    monkeypatch.setenv("VLLAMA_UNLOAD_MODE", "2")
    result = vllama("config", "--config-dir", "/nowhere")
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= columns
    assert matches(GOLDEN / f"config_{columns}.txt", result.stdout.rstrip())
