"""restart, reload and warm-up, as typed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.answers import a_running, a_status
from tests.cli.scripted import ScriptedServer

Vllama = Callable[..., Result]

READY = a_running("org/a", reason="Serving", message="Ready.")
STARTS = a_running("org/a", "Starting", reason="Starting", message="Loading.", port=None)
STOPPING = a_running("org/a", "Stopping", reason="GoingDown", message="The stop began 0.1s ago.")
STOPPED = a_status("org/a", reason="HeldByOperator", message="Stopped by an operator.")
ASLEEP = a_running("org/a", "Asleep", reason="HeldByOperator", message="Asleep at level 1.", sleep_level=1)
VALID = {"type": "ManifestValid", "ok": True, "reason": "Applied", "message": "models.yaml is in force."}
CANNOT = a_status("org/a", reason="CannotFit", message="Needs 30.0 GiB; gpu0 has 24.0 GiB.")


def asked(server: ScriptedServer) -> list[str]:
    return [path.rsplit("/", 1)[-1] for method, path, _ in server.requests if method == "POST"]


def test_a_restart_stops_and_then_starts(vllama: Vllama, server: ScriptedServer) -> None:
    server.asked, server.statuses = (202, READY), [[STOPPING], [STOPPED], [STARTS], [READY]]
    result = vllama("restart", "a", "--server", server.url)
    assert result.exit_code == 0, result.stderr
    assert asked(server) == ["stop", "start"]
    assert result.stdout.splitlines()[-1] == "org/a is Ready on gpu0, port 33301."


def test_a_model_that_does_not_run_is_restarted_too(vllama: Vllama, server: ScriptedServer) -> None:
    server.asked, server.statuses = (202, STOPPED), [[STARTS], [READY]]
    result = vllama("restart", "a", "--server", server.url, "-o", "json")
    assert (result.exit_code, asked(server)) == (0, ["stop", "start"])
    assert json.loads(result.stdout) == READY


def test_a_request_that_comes_while_it_stops_starts_it_as_well(vllama: Vllama, server: ScriptedServer) -> None:
    server.asked, server.statuses = (202, READY), [[STOPPING], [STARTS], [READY]]
    assert vllama("restart", "a", "--server", server.url).exit_code == 0
    assert asked(server) == ["stop", "start"]


def test_a_restart_that_does_not_come_up_again_says_why(vllama: Vllama, server: ScriptedServer) -> None:
    server.asked, server.statuses = (202, STOPPED), [[STOPPED], [CANNOT]]
    result = vllama("restart", "a", "--server", server.url)
    assert result.exit_code == 1
    assert result.stderr == "error: org/a cannot start: CannotFit: Needs 30.0 GiB; gpu0 has 24.0 GiB.\n"


def test_a_stop_that_takes_too_long_is_no_start(vllama: Vllama, server: ScriptedServer) -> None:
    server.asked, server.statuses = (202, STOPPING), [[STOPPING]]
    result = vllama("restart", "a", "--server", server.url, "--timeout", "0s")
    assert (result.exit_code, asked(server)) == (1, ["stop"])


def test_reload(vllama: Vllama, server: ScriptedServer) -> None:
    server.asked = 200, {"models": ["org/a", "org/b"], "conditions": [VALID]}
    result = vllama("reload", "--server", server.url)
    assert (result.exit_code, result.stdout) == (0, "models.yaml is in force; 2 models can be called.\n")
    assert server.requests == [("POST", "/admin/reload", None)]
    assert json.loads(vllama("reload", "--server", server.url, "-o", "json").stdout)["models"] == ["org/a", "org/b"]


def test_a_reload_of_a_broken_file_says_where(vllama: Vllama, server: ScriptedServer) -> None:
    wrong = "m.yaml:3: unknown key 'alias' (the last good version stays in force)"
    server.asked = 200, {"models": [], "conditions": [VALID | {"ok": False, "message": wrong}]}
    result = vllama("reload", "--server", server.url)
    assert result.exit_code == 1
    assert result.stderr == f"error: {wrong}\n"


@pytest.mark.parametrize("command", ["warm-up", "warmup", "warm_up"])
def test_a_warm_up_starts_and_puts_to_sleep(vllama: Vllama, server: ScriptedServer, command: str) -> None:
    server.asked = 202, STARTS
    server.statuses = [[STOPPED], [STARTS], [READY], [READY], [ASLEEP]]
    result = vllama(command, "a", "--server", server.url)
    assert (result.exit_code, asked(server)) == (0, ["start", "sleep"]), result.output
    assert result.stdout.splitlines()[-2:] == ["✓ org/a  Asleep (L1)", "1 of 1 warmed up."]


def test_who_is_awake_before_or_called_meanwhile_stays_awake(vllama: Vllama, server: ScriptedServer) -> None:
    server.asked, server.statuses = (202, READY), [[READY]]
    assert vllama("warm-up", "a", "--server", server.url).stdout.splitlines()[-2] == "✓ org/a  Ready"
    busy = a_running("org/a", in_flight=1)
    server.asked, server.statuses = (202, STOPPED), [[STOPPED], [busy]]
    assert vllama("warm-up", "a", "--server", server.url).exit_code == 0
    assert asked(server) == ["start", "start"]


def test_one_that_cannot_start_is_not_put_to_sleep_and_fails_the_command(
    vllama: Vllama, server: ScriptedServer, tmp_path: Path
) -> None:
    server.asked, server.statuses = (202, STOPPED), [[CANNOT]]
    result = vllama("warm-up", "a", "--save", "--config-dir", tmp_path, "--server", server.url, "-o", "json")
    assert (result.exit_code, asked(server)) == (1, ["start"])
    assert [(one["ok"], one["phase"]) for one in json.loads(result.stdout)] == [(False, "Stopped")]
    assert result.stderr.splitlines()[-1] == "error: not warmed up: org/a."
    assert not (tmp_path / "models.yaml").exists()


def test_saving_writes_the_id_and_keeps_the_file(vllama: Vllama, server: ScriptedServer, tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(
        "# ours\nmodels:\n  org/a: {aliases: [a]}  # small\n  org/b:\n    priority: 2\n    auto_start: on\n"
    )
    server.asked, server.statuses = (202, READY), [[READY]]
    result = vllama("warm-up", "a", "--save", "--config-dir", tmp_path, "--server", server.url)
    assert result.exit_code == 0
    assert f"written into {file}" in result.stdout
    assert file.read_text() == (
        "# ours\nmodels:\n  org/a: {aliases: [a], auto_start: true} # small\n"
        "  org/b:\n    priority: 2\n    auto_start: on\n"
    )
    assert vllama("warm-up", "--config-dir", tmp_path).stdout.splitlines()[1:] == ["  org/b", "  org/a"]
    assert json.loads(vllama("warm-up", "--show", "-o", "json", "--config-dir", tmp_path).stdout) == ["org/b", "org/a"]
    assert vllama("warm-up", "--remove", "a", "--config-dir", tmp_path).exit_code == 0
    assert file.read_text().splitlines()[2].split("#") == ["  org/a: {aliases: [a]}".ljust(42), " small"]
    assert vllama("warm-up", "--clear", "--config-dir", tmp_path).stdout.endswith("server: org/b.\n")
    assert vllama("warm-up", "--config-dir", tmp_path).stdout.startswith("No model is started with the server.")


def test_what_the_defaults_say_is_taken_back_by_name(vllama: Vllama, tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text("defaults:\n  auto_start: true\nmodels:\n  org/a: {}\n")
    assert vllama("warm-up", "--clear", "--config-dir", tmp_path).exit_code == 0
    assert file.read_text() == "defaults:\n  auto_start: true\nmodels:\n  org/a: {auto_start: false}\n"


@pytest.mark.parametrize("arguments", [["a", "--show"], ["a", "--clear"], ["--save"]])
def test_a_warm_up_does_one_thing_at_a_time(vllama: Vllama, tmp_path: Path, arguments: list[str]) -> None:
    assert vllama("warm-up", *arguments, "--config-dir", tmp_path).exit_code == 2


def test_who_is_not_listed_cannot_be_removed(vllama: Vllama, tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("org/a: {}\n")
    result = vllama("warm-up", "-r", "org/a", "--config-dir", tmp_path)
    assert (result.exit_code, result.stderr) == (1, "error: not started with the server anyway: org/a.\n")
