"""`vllama assign`, as typed: what becomes of models.yaml, and what is said about it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.answers import a_running, a_status
from tests.cli.golden import matches
from tests.cli.scripted import ScriptedServer
from tests.engine.test_cache import put
from tests.planner.cluster import NOW, Cluster
from vllama.controller.figures import Figures
from vllama.controller.manifest import load
from vllama.controller.supposed import Foreseen
from vllama.gateway.enquiry_json import foreseen_json
from vllama.planner.project import settle
from vllama.planner.suppose import changed, start_of

Vllama = Callable[..., Result]
GOLDEN = Path(__file__).parent / "render" / "golden"

FILE = """\
models:
  # the small one
  org/a-0.6B:
    aliases: [small]
    extra_args: {max-num-seqs: 256, enable-prefix-caching: true}
    env: {HF_TOKEN: hf_secretsecretsecret}
  org/b: {}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VLLAMA_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("VLLAMA_TRANSFORMERS_CACHE", str(tmp_path / "hub"))
    path = tmp_path / "models.yaml"
    path.write_text(FILE)
    return path


ALL = """\
  org/b:
    devices: [0, 1]
    gpu_memory_utilization: 0.4
    port: 33301
    tensor_parallel_size: 2
    max_model_len: 32k
    dtype: bfloat16
    trust_remote_code: true
    auto_start: true
    extra_args:
      max-num-batched-tokens: 8192
      enforce-eager: true
      limit-mm-per-prompt: '{"image": 2}'
"""


def test_every_flag_of_the_older_tool(vllama: Vllama, file: Path) -> None:
    result = vllama(
        "assign", "b", "-d", "0,1", "-m", "0.4", "-p", "33301", "-t", "2", "-l", "32k", "--dtype", "bfloat16",
        "--trust-remote-code", "--auto-start", "-e", "max-num-batched-tokens=8192", "--extra", "enforce-eager=true",
        "--extra-args", 'limit-mm-per-prompt={"image": 2}',
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    written = file.read_text().replace("org/b: {", "org/b: {\n    ")
    spec = load(file, environ={}).models["org/b"]
    assert (spec.devices, spec.device_count, spec.auto_start, spec.launch.port) == ((0, 1), 2, True, 33301)
    assert spec.launch.setting("max_model_len") == 32000
    assert dict(spec.launch.settings)["trust_remote_code"] is True
    assert "# the small one" in written
    assert vllama("assign", "b", "--no-auto-start", "--no-trust-remote-code", "-d", "auto").exit_code == 0
    spec = load(file, environ={}).models["org/b"]
    assert (spec.devices, spec.auto_start, dict(spec.launch.settings)["trust_remote_code"]) == (None, False, False)


def test_extra_args_are_merged_cleared_and_unset(vllama: Vllama, file: Path) -> None:
    def extra() -> dict[str, object]:
        launch = load(file, environ={}).models["org/a-0.6B"].launch
        return dict(launch.settings) | dict(launch.extra_args)

    vllama("assign", "small", "-e", "max_num_seqs=128", "-e", "seed=7")
    assert (extra()["max_num_seqs"], extra()["seed"], extra()["enable_prefix_caching"]) == (128, 7, True)
    assert "max-num-seqs: 128" in file.read_text()  # where it stood, as it was spelled
    vllama("assign", "small", "--unset", "extra_args.seed", "--unset", "max-num-seqs")
    assert set(extra()) == {"enable_prefix_caching"}
    vllama("assign", "small", "--clear-extra-args", "-e", "seed=1")
    assert extra() == {"seed": 1}


def test_unset_is_the_way_back_to_the_default(vllama: Vllama, file: Path) -> None:
    vllama("assign", "b", "-p", "33301", "-l", "4096", "--set", "idle.sleep_after=10m", "--set", "aliases=[x, y]")
    spec = load(file, environ={}).models["org/b"]
    assert (spec.aliases, spec.idle.sleep_after_s) == (("x", "y"), 600)
    vllama("assign", "x", "--unset", "port", "--unset", "max_model_len", "--unset", "idle", "--unset", "aliases")
    assert file.read_text() == FILE


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["b", "-m", "1.5"], "gpu_memory_utilization"),
        (["b", "-d", "x"], "--devices x: write GPU numbers"),
        (["b", "--set", "max_modl_len=5"], "did you mean 'max_model_len'"),
        (["b", "-e", "host=0.0.0.0"], "host"),
        (["b", "-d", "0", "-t", "2"], "lists 1"),
        (["b", "--set", "pin"], "write KEY=VALUE"),
        (["b", "-p", "33301", "--unset", "port"], "set and unset at once"),
        (["nobody", "-p", "33301"], "give its whole id and --new"),
    ],
)
def test_what_is_wrong_is_said_and_not_written(vllama: Vllama, file: Path, arguments: list[str], says: str) -> None:
    result = vllama("assign", *arguments)
    assert result.exit_code == 1
    assert says in result.stderr
    assert "Traceback" not in result.output
    assert file.read_text() == FILE


@pytest.mark.parametrize(
    "arguments", [["b"], ["b", "--show", "-p", "1"], ["b", "--dry-run", "--restart", "-p", "33301"], []]
)
def test_a_wrong_command_line_exits_with_2(vllama: Vllama, file: Path, arguments: list[str]) -> None:
    assert vllama("assign", *arguments).exit_code == 2
    assert file.read_text() == FILE


def test_a_model_that_is_nowhere_yet_wants_new(vllama: Vllama, file: Path) -> None:
    assert vllama("assign", "org/new", "--new", "-l", "4096").exit_code == 0
    assert list(load(file, environ={}).models) == ["org/a-0.6B", "org/b", "org/new"]


@pytest.mark.parametrize(
    ("phase", "arguments", "says"),
    [
        ("Ready", ["-l", "8192"], "when nothing is in flight it stops, and what was ready starts anew."),
        ("Ready", ["--set", "priority=3"], "org/b is Ready and stays so: the change needs no new engine."),
        ("Stopped", ["-l", "8192"], "org/b is Stopped; its next start has the new settings."),
    ],
)
def test_a_dry_run_tells_what_would_follow_and_writes_nothing(  # noqa: PLR0917  # fixtures and cases
    vllama: Vllama, file: Path, server: ScriptedServer, phase: str, arguments: list[str], says: str
) -> None:
    server.statuses = [[a_running("org/b", phase)]]
    result = vllama("assign", "b", "--dry-run", *arguments, "--server", server.url)
    assert (result.exit_code, result.stdout.splitlines()[-1].endswith(says)) == (0, True), result.output
    assert " would change in " in result.stdout
    assert file.read_text() == FILE
    answer = json.loads(vllama("assign", "b", "--dry-run", *arguments, "--server", server.url, "-o", "json").stdout)
    assert (answer["written"], answer["phase"], len(answer["changes"])) == (False, phase, 1)


def test_restart_reloads_stops_and_starts(vllama: Vllama, file: Path, server: ScriptedServer) -> None:
    server.asked = 202, a_running("org/b", "Starting", conditions=[], reason="Starting")
    server.statuses = [[a_running("org/b")], [a_status("org/b")], [a_running("org/b")]]
    result = vllama("assign", "b", "-l", "8192", "--restart", "--server", server.url)
    assert result.exit_code == 0, result.output
    posts = [path for method, path, _ in server.requests if method == "POST"]
    assert [path.rsplit("/", 1)[-1] for path in posts] == ["reload", "stop", "start"]
    assert "max_model_len: 8192" in file.read_text()


def test_a_restart_without_a_server_is_written_all_the_same(vllama: Vllama, file: Path) -> None:
    result = vllama("assign", "b", "-l", "8192", "--restart")
    assert result.exit_code == 3
    assert "models.yaml is written, but there is nothing to restart" in result.stderr
    assert "max_model_len: 8192" in file.read_text()


@pytest.mark.parametrize("columns", [80, 120])
def test_show_reads_as_its_golden_file(
    vllama: Vllama, file: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    vllama("assign", "small", "-d", "0", "-l", "4096", "--set", f"hf_overrides={{a: {'x' * 60}}}")
    result = vllama("assign", "small", "--show")
    assert result.exit_code == 0
    assert "hf_secret" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= columns
    assert matches(GOLDEN / f"assign_show_{columns}.txt", result.stdout.rstrip())


def test_secrets_are_not_shown_in_changes(vllama: Vllama, file: Path) -> None:
    result = vllama("assign", "small", "--set", "env.HF_TOKEN=hf_anothersecretsecret")
    assert result.exit_code == 0
    assert "secretsecret" not in result.stdout


def test_a_dry_run_shows_the_diff_without_secrets(vllama: Vllama, file: Path) -> None:
    shown = vllama("assign", "small", "--dry-run", "-l", "8192", "--set", "env.HF_TOKEN=hf_anothersecretsecret")
    assert "+    max_model_len: 8192" in shown.stdout
    assert "secretsecret" not in shown.output
    assert file.read_text() == FILE


def test_a_dry_run_tells_the_plan_of_the_server(vllama: Vllama, file: Path, server: ScriptedServer) -> None:
    cluster = Cluster(gpus=(24.0,)).model("org/b", 6).model("org/c", 20).engine("org/b", unused=9)
    desired, snapshot = cluster.states()
    spec = replace(cluster.models["org/b"], memory_bytes=5 << 30, pin=True)
    then = changed(desired, snapshot, NOW, spec, None)
    foreseen = Foreseen(
        plans=settle(*then, NOW), anyway=settle(desired, snapshot, NOW), start=start_of(*then, NOW, "org/b"),
        before=Figures(model="org/b", awake_bytes=6 << 30), after=Figures(model="org/b", awake_bytes=5 << 30),
    )  # fmt: skip
    server.statuses, server.asked = [[a_running("org/b")]], (200, foreseen_json(foreseen))
    typed = ["assign", "b", "--dry-run", "--set", "memory=5GiB", "--set", "env.HF_TOKEN=hf_x", "--server", server.url]
    told = vllama(*typed)
    assert told.exit_code == 0, told.output
    for line in [
        f"What the server at {server.url} would do:", "  - org/b  Ready -> Stopped  gpu0",
        "  + org/b  Stopped -> Ready  gpu0", "Takes when awake, of each of its devices: 6.0 GiB -> 5.0 GiB",
    ]:  # fmt: skip
        assert line in told.stdout
    assert "anyway" not in told.stdout
    [asked] = [body for method, path, body in server.requests if (method, path) == ("POST", "/admin/plan/suppose")]
    assert (asked["model"], asked["new_engine"], asked["memory_bytes"]) == ("org/b", True, 5 << 30)
    assert "hf_x" not in json.dumps(asked)  # what an engine is started with stays here
    answer = json.loads(vllama(*typed, "-o", "json").stdout)
    assert (answer["url"], answer["written"], answer["here"]) == (server.url, False, None)
    assert [len(plan["decisions"]) for plan in answer["foreseen"]["plans"]] == [2, 2, 2]
    assert file.read_text() == FILE


def test_a_server_that_cannot_foresee_is_no_obstacle(vllama: Vllama, file: Path, server: ScriptedServer) -> None:
    server.statuses, server.asked = [[a_running("org/b")]], (405, "no")
    told = vllama("assign", "b", "--dry-run", "-l", "8192", "--server", server.url)
    assert (told.exit_code, "warning: what it would do is not told" in told.stderr) == (0, True), told.output


def test_without_a_server_a_dry_run_tells_what_can_be_known(vllama: Vllama, file: Path, tmp_path: Path) -> None:
    config = {
        "architectures": ["X"], "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "head_dim": 128, "max_position_embeddings": 131072,
    }  # fmt: skip
    weights = b"\2" + b"\0" * 7 + b"{}"
    files = {"config.json": json.dumps(config).encode(), "tokenizer.json": b"{}", "model.safetensors": weights}
    put(tmp_path / "hub", "org/b", files)
    typed = ["assign", "b", "--dry-run", "-l", "65536"]
    here = json.loads(vllama(*typed, "-o", "json").stdout)["here"]
    per_token = 2 * 32 * 8 * 128 * 2
    assert here["before_bytes"] - here["after_bytes"] == 65536 * per_token
    assert "Takes when awake, of each of its devices:" in vllama(*typed).stdout
