"""`vllama keys`: no server is needed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from vllama.gateway.keys.file import load_entries
from vllama.gateway.keys.key import Scope, digest_of

Vllama = Callable[..., Result]


def test_a_key_is_printed_once_and_alone(vllama: Vllama, tmp_path: Path) -> None:
    first = vllama("keys", "add", "laptop", "--config-dir", tmp_path)
    assert first.exit_code == 0
    secret = first.stdout.removesuffix("\n")
    entries = load_entries(tmp_path / "keys.yaml")
    assert entries is not None
    assert entries["laptop"].digest == digest_of(secret.encode())
    assert "asks everybody for a key" in first.stderr
    second = vllama("keys", "add", "ops", "--scope", "admin", "--config-dir", tmp_path)
    assert "the models and the admin API" in second.stderr
    assert "asks everybody" not in second.stderr
    entries = load_entries(tmp_path / "keys.yaml")
    assert entries is not None
    assert entries["ops"].scope is Scope.ADMIN


def test_list(vllama: Vllama, tmp_path: Path) -> None:
    assert "nobody needs a key" in vllama("keys", "list", "--config-dir", tmp_path).stdout
    assert json.loads(vllama("keys", "list", "-o", "json", "--config-dir", tmp_path).stdout) == []
    secret = vllama("keys", "add", "ops-of-the-house", "--scope", "admin", "--config-dir", tmp_path).stdout.strip()
    shown = vllama("keys", "list", "--config-dir", tmp_path).stdout.splitlines()
    assert shown[0].split() == ["NAME", "SCOPE", "ADDED"]
    assert shown[1].split()[:2] == ["ops-of-the-house", "admin"]
    (entry,) = json.loads(vllama("keys", "list", "-o", "json", "--config-dir", tmp_path).stdout)
    assert (entry["name"], entry["scope"]) == ("ops-of-the-house", "admin")
    assert secret not in str(entry)


def test_remove(vllama: Vllama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "elsewhere.yaml"
    monkeypatch.setenv("VLLAMA_API_KEYS_FILE", str(path))
    vllama("keys", "add", "a")
    vllama("keys", "add", "b", "--api-keys", path)
    assert vllama("keys", "remove", "a").stdout == "The key of a is gone.\n"
    assert "It was the last" in vllama("keys", "remove", "b").stdout
    assert load_entries(path) == {}


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        (None, ["remove", "a"], "so there are no keys"),
        ("keys: {}", ["remove", "a"], "there is no key a; there are: none."),
        ("keys: {}", ["add", "a b"], "a name has 1 to 64"),
        ("keys: {a", ["add", "a"], "keys.yaml:1"),
        ("keys: {a", ["list"], "keys.yaml:1"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_changed(
    vllama: Vllama, tmp_path: Path, content: str | None, arguments: list[str], said: str
) -> None:
    path = tmp_path / "keys.yaml"
    if content is not None:
        path.write_text(content)
    result = vllama("keys", *arguments, "--config-dir", tmp_path)
    assert result.exit_code == 1
    assert said in " ".join(result.stderr.replace("\n", " ").split())
    assert result.stdout == ""
    assert (path.read_text() if path.exists() else None) == content


def test_a_directory_that_cannot_be_written_is_said(vllama: Vllama, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = vllama("keys", "add", "a", "--config-dir", tmp_path / "file")
    assert result.exit_code == 1
    assert "cannot be changed" in result.stderr
