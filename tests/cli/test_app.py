"""The commands as typed: arguments, exit codes, which stream says what."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.answers import IN_THE_END, MAKE_ROOM, THEN_START, a_running, a_status
from tests.cli.pages import calling, everything, five_models, running_card, three_nodes
from tests.cli.scripted import ScriptedServer
from tests.planner.cluster import Cluster

Vllama = Callable[..., Result]

VLLAMA = [sys.executable, "-c", "from vllama.cli.app import main; main()"]
READY = a_running("org/a", reason="Serving", message="Ready.")
STARTS = a_running("org/a", "Starting", reason="Starting", message="Loading.", port=None)
CANNOT = a_status("org/a", reason="CannotFit", message="Needs 30.0 GiB; gpu0 has 24.0 GiB.")
BROKEN = {"type": "ManifestValid", "ok": False, "reason": "Invalid", "message": "models.yaml:3: unknown key 'alias'"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["start"], "Missing argument"),
        (["sleep", "a", "--level", "4"], "'--level'"),
        (["ps", "--nonsense"], "No such option"),
        (["ps", "-o", "yaml"], "'yaml' is not one of"),
        (["ps", "-w", "-o", "json"], "leave it out with -o json"),
        (["plan", "--server", "ftp://box"], "is no URL"),
        (["start", "a", "--timeout", "soon"], "'soon' is not a duration"),
        (["serve", "--port", "70000"], "'--port'"),
        (["serve", "--log-level", "loud"], "'loud' is not one of"),
    ],
)
def test_a_wrong_command_line_exits_with_2(vllama: Vllama, arguments: list[str], says: str) -> None:
    result = vllama(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("command", [["ps"], ["plan"], ["start", "a"], ["stop", "a"], ["sleep", "a"], ["wake-up", "a"]])
def test_without_a_server_the_code_is_3_and_it_says_what_to_do(
    vllama: Vllama, tmp_path: Path, command: list[str]
) -> None:
    result = vllama(*command, "--config-dir", tmp_path)
    assert result.exit_code == 3
    assert result.stderr.startswith("error: no vllama server runs on ")
    assert "vllama serve" in result.stderr
    assert result.stdout == ""


def test_the_server_may_come_from_the_environment(vllama: Vllama, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("VLLAMA_SERVER", url)
        result = vllama("ps")
    assert result.exit_code == 3
    assert url in result.stderr


def test_the_server_of_the_configuration_directory_is_found(
    vllama: Vllama, server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"pid": os.getpid(), "port": server.server_port, "host": "127.0.0.1"}
    (tmp_path / "server.pid").write_text(json.dumps(entry))
    monkeypatch.setenv("VLLAMA_CONFIG_DIR", str(tmp_path))
    server.statuses = [[READY]]
    assert "org/a" in vllama("ps").stdout


def test_ps(vllama: Vllama, server: ScriptedServer) -> None:
    server.statuses, server.conditions = [[READY]], (BROKEN,)
    result = vllama("ps", "--server", server.url)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "! models.yaml:3: unknown key 'alias'"
    assert lines[2].split()[:2] == ["MODEL", "PHASE"]
    assert lines[3].split()[:3] == ["org/a", "Ready", "gpu0"]


def test_ps_as_json_keeps_stdout_for_the_list(vllama: Vllama, server: ScriptedServer) -> None:
    server.statuses, server.conditions = [[READY]], (BROKEN,)
    result = vllama("ps", "-o", "json", "--server", server.url)
    assert json.loads(result.stdout) == [READY]
    assert result.stderr == "! models.yaml:3: unknown key 'alias'\n"


def test_plan(vllama: Vllama, server: ScriptedServer) -> None:
    server.plans = [MAKE_ROOM]
    result = vllama("plan", "--server", server.url)
    assert result.exit_code == 0
    assert "  ~ org/a  Ready -> Asleep  gpu0, at level 1\n" in result.stdout


def test_plan_as_json_is_the_plan(vllama: Vllama, server: ScriptedServer) -> None:
    server.plans = [MAKE_ROOM]
    assert json.loads(vllama("plan", "-o", "json", "--server", server.url).stdout) == MAKE_ROOM
    server.plans = [MAKE_ROOM, IN_THE_END]
    settled = vllama("plan", "--settle", "-o", "json", "--server", server.url)
    assert json.loads(settled.stdout) == [MAKE_ROOM, IN_THE_END]


@pytest.mark.parametrize(
    ("plans", "arguments", "code"),
    [
        ([MAKE_ROOM], ["--exit-code"], 10),
        ([IN_THE_END], ["--exit-code"], 0),
        ([MAKE_ROOM, THEN_START, IN_THE_END], ["--exit-code", "--settle"], 10),
        ([MAKE_ROOM, THEN_START, IN_THE_END], ["--settle"], 0),
    ],
)
def test_the_exit_code_of_plan(
    vllama: Vllama, server: ScriptedServer, plans: list[dict[str, object]], arguments: list[str], code: int
) -> None:
    server.plans = plans
    assert vllama("plan", *arguments, "--server", server.url).exit_code == code


def test_ps_wide_adds_what_models_take(vllama: Vllama, server: ScriptedServer) -> None:
    server.statuses, server.pages = [[a_running("Qwen/Qwen3-8B")]], {"/admin/memory": everything()}
    lines = vllama("ps", "-o", "wide", "--server", server.url).stdout.splitlines()
    assert lines[0].split()[6:9] == ["AWAKE", "ASLEEP", "WEIGHTS"]
    assert lines[1].split()[6:8] == ["24.0", "GiB"]


@pytest.mark.parametrize(
    ("arguments", "path", "answer"),
    [
        (["memory"], "/admin/memory", everything()),
        (["nodes"], "/admin/nodes", three_nodes()),
        (["show", "org/a"], "/admin/models/org/a", running_card()),
        (["plan", "--matrix"], "/admin/plan/matrix", five_models()),
        (["plan", "--request", "a"], "/admin/plan/request?model=a", calling(Cluster().model("a"), "a")),
        (
            ["plan", "-r", "a", "-r", "b"],
            "/admin/plan/request?model=a&model=b",
            calling(Cluster().model("a").model("b"), "a", "b"),
        ),
    ],
)
def test_questions_are_answered_for_people_and_for_programs(
    vllama: Vllama, server: ScriptedServer, arguments: list[str], path: str, answer: dict[str, object]
) -> None:
    server.pages = {path: answer}
    result = vllama(*arguments, "--server", server.url)
    assert (result.exit_code, result.stderr) == (0, "")
    assert any(
        word in result.stdout for word in ("other programs", "Would be started", "At most", "would be ready", "is lost")
    )
    assert json.loads(vllama(*arguments, "-o", "json", "--server", server.url).stdout) == answer


@pytest.mark.parametrize(("models", "code"), [(["a"], 10), (["b"], 0)])
def test_the_exit_code_of_a_request(vllama: Vllama, server: ScriptedServer, models: list[str], code: int) -> None:
    answer = calling(Cluster().model("a").model("b").engine("b"), *models)
    server.pages = {f"/admin/plan/request?model={models[0]}": answer}
    assert vllama("plan", "-r", models[0], "--exit-code", "--server", server.url).exit_code == code


def test_one_question_at_a_time(vllama: Vllama) -> None:
    for arguments in (["--settle", "--matrix"], ["-r", "a", "--matrix"], ["-r", "a", "--settle"]):
        result = vllama("plan", *arguments)
        assert (result.exit_code, "one at a time" in result.stderr) == (2, True)


@pytest.mark.parametrize("command", ["start", "wake-up", "wakeup", "wake_up"])
def test_start_by_any_of_its_names(vllama: Vllama, server: ScriptedServer, command: str) -> None:
    server.asked, server.statuses = (202, a_status("org/a")), [[STARTS], [READY]]
    result = vllama(command, "a", "--server", server.url)
    assert result.exit_code == 0
    assert [line.split("s  ")[1].split()[0] for line in result.stdout.splitlines()[:-1]] == [
        "Stopped",
        "Starting",
        "Ready",
    ]
    assert result.stdout.splitlines()[-1] == "org/a is Ready on gpu0, port 33301."
    assert server.requests[0] == ("POST", "/admin/models/a/start", None)


def test_where_there_are_several_machines_a_start_says_on_which(vllama: Vllama, server: ScriptedServer) -> None:
    server.pages["/admin/nodes"] = {"nodes": [{"name": "gpu-1"}, {"name": "gpu-2"}]}
    starts, ready = ({**each, "node": "gpu-2"} for each in (STARTS, READY))
    server.asked, server.statuses = (202, a_status("org/a")), [[starts], [ready]]
    stopped, starting, *_, last = vllama("start", "a", "--server", server.url).stdout.splitlines()
    assert "gpu-2" not in stopped
    assert starting.endswith("[on gpu0 of gpu-2]")
    assert last == "org/a is Ready on gpu0 of gpu-2, port 33301."


def test_sleep_takes_a_level(vllama: Vllama, server: ScriptedServer) -> None:
    server.asked = 202, a_running("org/a", "Asleep", sleep_level=2, port=33301)
    assert vllama("sleep", "a", "-l", "2", "--server", server.url).stdout.endswith("org/a is Asleep (L2) on gpu0.\n")
    vllama("sleep", "a", "--server", server.url)
    assert [body for verb, _, body in server.requests if verb == "POST"] == [{"level": 2}, {"level": None}]


def test_stop_and_no_wait(vllama: Vllama, server: ScriptedServer) -> None:
    server.asked = 202, READY
    result = vllama("stop", "a", "--no-wait", "--server", server.url)
    assert (result.exit_code, result.stdout) == (0, "org/a is asked to stop; it is Ready now.\n")
    assert len(server.requests) == 1


def test_what_cannot_be_exits_with_1_and_its_reason(vllama: Vllama, server: ScriptedServer) -> None:
    server.asked, server.statuses = (202, a_status("org/a")), [[CANNOT]]
    result = vllama("start", "a", "--server", server.url)
    assert result.exit_code == 1
    assert result.stderr == "error: org/a cannot start: CannotFit: Needs 30.0 GiB; gpu0 has 24.0 GiB.\n"


def test_json_of_a_start_is_the_last_status_also_when_it_fails(vllama: Vllama, server: ScriptedServer) -> None:
    server.asked, server.statuses = (202, a_status("org/a")), [[CANNOT]]
    result = vllama("start", "a", "-o", "json", "--server", server.url)
    assert result.exit_code == 1
    assert json.loads(result.stdout) == CANNOT
    assert "CannotFit" in result.stderr.splitlines()[1]


def test_an_unknown_model_is_told_in_the_servers_words(vllama: Vllama, server: ScriptedServer) -> None:
    server.asked = 404, {"error": {"message": "There is no model 'x'.", "type": "not_found", "code": "model_not_found"}}
    result = vllama("stop", "x", "--server", server.url)
    assert (result.exit_code, result.stderr) == (1, "error: There is no model 'x'.\n")


def test_an_answer_nobody_expected_is_one_line_and_no_traceback(vllama: Vllama, server: ScriptedServer) -> None:
    server.statuses = [[{"model": "org/a"}]]
    result = vllama("ps", "--server", server.url)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: KeyError: ")
    assert "Traceback" not in result.output


def test_version(vllama: Vllama) -> None:
    assert vllama("version").stdout.split()[0] == "vllama"


def test_help_tells_the_exit_codes_and_hides_the_aliases(vllama: Vllama) -> None:
    text = vllama("--help").stdout
    assert "3    no server answers" in text
    assert "wake-up" in text
    assert "wakeup" not in text


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom vllama.cli.app import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('httpx', 'rich', 'pydantic', 'fastapi', 'yaml', 'uvicorn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_goes_away_is_no_error(server: ScriptedServer) -> None:
    server.statuses = [[a_running(f"org/{n}", message="x" * 100) for n in range(2000)]]
    command = subprocess.Popen(
        [*VLLAMA, "ps", "--server", server.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert command.stdout is not None
    assert command.stderr is not None
    assert command.stdout.readline().startswith("MODEL")
    command.stdout.close()
    assert command.stderr.read() == ""
    command.stderr.close()
    assert command.wait() == 1


def test_a_reader_that_was_never_there_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*VLLAMA, "version"], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_ctrl_c_while_it_waits_leaves_the_request_and_says_so(server: ScriptedServer) -> None:
    server.asked, server.statuses = (202, STARTS), [[STARTS]]
    command = subprocess.Popen(
        [*VLLAMA, "start", "a", "--server", server.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert command.stdout is not None
    assert "Starting" in command.stdout.readline()
    command.send_signal(signal.SIGINT)
    _, stderr = command.communicate(timeout=10)
    assert command.returncode == 130
    assert stderr == "error: interrupted; org/a is still asked to start (see `vllama ps`).\n"


def test_a_plain_terminal_gets_a_question_mark_for_what_it_cannot_show(server: ScriptedServer) -> None:
    server.plans = [MAKE_ROOM]
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*VLLAMA, "plan", "--server", server.url], capture_output=True, env=environ, check=True)
    assert b"  ? org/c  Stopped" in done.stdout


@pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed")
def test_a_cluster_that_everybody_may_join_is_refused_with_advice(
    vllama: Vllama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    done = vllama("serve", "--runtime", "ray", "--config-dir", str(tmp_path), "--port", "0")
    assert done.exit_code == 1
    assert "RAY_AUTH_MODE=unset" in done.stderr
    assert "--ray-insecure" in done.stderr


@pytest.mark.skipif(bool(find_spec("ray")), reason="Ray is installed")
def test_without_ray_it_says_how_to_install_it(vllama: Vllama, tmp_path: Path) -> None:
    done = vllama("serve", "--runtime", "ray", "--config-dir", str(tmp_path), "--port", "0")
    assert (done.exit_code, "pip install 'vllama[ray]'" in done.stderr) == (1, True)
