"""Completion, as the shells ask for it: the installed program, told through its environment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.answers import a_running, a_status
from tests.cli.scripted import ScriptedServer

VLLAMA = [sys.executable, "-c", "from vllama.cli.app import main; main()"]
PATIENT = [sys.executable, "-c", "from vllama.cli import app, complete; complete.ANSWERS_WITHIN_S = 30; app.main()"]
FILE = "models:\n  org/Apple-7B: {aliases: [fruit], lora: {sweet: /x}}\n  org/Berry: {}\n  other/Berry: null\n"
STATUSES = [a_running("org/Cherry", aliases=["red"], adapters=["sour"]), a_status("org/Date")]


def ask(
    shell: str, typed: str, directory: Path, *, program: list[str] = VLLAMA, **more: str
) -> tuple[list[str], str]:  # fmt: skip
    """What it answers, line by line, and what it writes to stderr. It never fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VLLAMA_")}
    words = typed.split(" ")
    asked = {
        "bash": {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": typed},
        "fish": {"_TYPER_COMPLETE_ARGS": typed, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }
    env = kept | asked[shell] | {"_VLLAMA_COMPLETE": f"complete_{shell}", "VLLAMA_CONFIG_DIR": str(directory)} | more
    done = subprocess.run(program, env=env, cwd=directory, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.split("\n") if line], done.stderr


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "models.yaml").write_text(FILE)
    return tmp_path


def test_bash_from_the_file(directory: Path) -> None:
    every = ["org/Apple-7B", "fruit", "sweet", "org/Berry", "other/Berry"]
    assert ask("bash", "vllama start ", directory) == (every, "")


def test_a_short_name_only_where_one_model_has_it(directory: Path) -> None:
    assert ask("bash", "vllama show Apple", directory)[0] == ["Apple-7B"]
    assert ask("bash", "vllama show Berr", directory)[0] == []


def test_zsh_and_fish_say_whose_name_it_is(directory: Path) -> None:
    assert '"fruit":"org/Apple-7B"' in "".join(ask("zsh", "vllama stop fr", directory)[0])
    assert ask("fish", "vllama stop fr", directory)[0] == ["fruit\torg/Apple-7B"]


def test_from_the_server_that_is_named(directory: Path, server: ScriptedServer) -> None:
    server.statuses = [STATUSES]
    found, said = ask("fish", f"vllama run --server {server.url} ", directory, program=PATIENT)
    assert (found, said) == (["org/Cherry\tReady", "red\torg/Cherry", "sour\torg/Cherry", "org/Date\tStopped"], "")
    by_variable = ask("fish", "vllama plan --request r", directory, program=PATIENT, VLLAMA_SERVER=server.url)
    assert by_variable[0] == ["red\torg/Cherry"]


def test_a_server_that_does_not_answer_is_not_waited_for(directory: Path, server: ScriptedServer) -> None:
    with server.lock:  # it takes the question, and says nothing
        found, said = ask("bash", "vllama start org/A", directory, VLLAMA_SERVER=server.url)
    assert (found, said) == (["org/Apple-7B"], "")


@pytest.mark.parametrize(
    ("server", "content"),
    [
        ("http://127.0.0.1:1", "a: ["),
        ("ftp://nonsense", "- a\n"),
        ("http://[", "models: 3\n"),
        ("http://box.invalid", "a: 3\n"),
        (":", "\x00"),
        ("http://127.0.0.1:1", None),
    ],
)
def test_whatever_is_wrong_nothing_is_said(tmp_path: Path, server: str, content: str | None) -> None:
    (tmp_path / ".env").write_text("VLLAMA_VLLM=/bin/sh\n")
    if content is not None:
        (tmp_path / "models.yaml").write_text(content)
    assert ask("bash", "vllama start x", tmp_path, VLLAMA_SERVER=server) == ([], "")


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("vllama start qwen3 : 8", ["8b", "8b-awq"]),
        ("vllama start qwen3 :", ["8b", "8b-awq"]),
        ("vllama stop --server http : //127.0.0.1 : 1 qwen3 : 8b-", ["8b-awq"]),
        ("vllama start qw", ["qwen3:8b", "qwen3:8b-awq"]),
    ],
)
def test_bash_breaks_words_at_colons(tmp_path: Path, typed: str, found: list[str]) -> None:
    (tmp_path / "models.yaml").write_text("org/Q: {aliases: ['qwen3:8b', 'qwen3:8b-awq', 'other:8b']}\n")
    assert ask("bash", typed, tmp_path) == (found, "")


def every_command() -> list[str]:
    """All that take the name of a model."""
    return [
        *("show", "start", "wake-up", "stop", "sleep", "restart", "logs", "events", "run", "rm", "assign", "warm-up"),
        *("pull", "plan -r", "warm-up --remove", "warm-up org/Berry"),
    ]


def test_every_command_that_takes_a_model(directory: Path) -> None:
    asked = "; ".join(
        f"os.environ['COMP_WORDS'] = 'vllama {each} fr'; os.environ['COMP_CWORD'] = '{len(each.split()) + 1}'; again()"
        for each in every_command()
    )
    program = (
        "import os, contextlib, sys\nfrom vllama.cli.app import app\n"
        "def again():\n  with contextlib.suppress(SystemExit): app(prog_name='vllama')\n" + asked
    )
    env = dict(os.environ) | {"_VLLAMA_COMPLETE": "complete_bash", "VLLAMA_CONFIG_DIR": str(directory)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["fruit"] * len(every_command())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_the_shell(directory: Path, shell: str) -> None:
    env = dict(os.environ) | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        [*VLLAMA, "--show-completion", shell], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert "_VLLAMA_COMPLETE" in done.stdout
