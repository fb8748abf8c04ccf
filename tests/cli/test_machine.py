"""init, doctor, info, schema and version as typed."""

import json
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.scripted import ScriptedServer
from tests.engine.test_cache import FILES, put
from vllama.controller.manifest.json_schema import manifest_schema
from vllama.controller.manifest.load import load

Vllama = Callable[..., Result]

QWEN = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "hidden_size": 64, "max_position_embeddings": 4096,
}  # fmt: skip
INFO = {
    "version": "0.1.0", "pid": 4242, "host": "0.0.0.0", "port": 33258, "started_at": "2025-11-03T11:00:00Z",
    "uptime_s": 3725.4, "rss_bytes": 90 << 20, "config_dir": "/home/me/.vllama",
    "models_yaml": "/home/me/.vllama/models.yaml", "logs": "/home/me/.vllama/logs", "model_cache": "/data/hub",
    "engine_ports": [33300, 34299], "runs_on": "GPUs 0, 1", "simulated": False,
    "idle": {"sleep_after_s": 1800.0, "level": None, "stop_after_s": None}, "models": 3,
    "endpoints": {"openai": "/v1", "health": "/health", "something": "/new"},
}  # fmt: skip
BROKEN = {"type": "ManifestValid", "ok": False, "reason": "Invalid", "message": "models.yaml:3: unknown key 'alias'"}


@pytest.fixture
def config_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a server, and without settings of the user's; it has a vLLM for the CPU."""
    for name in [name for name in os.environ if name.startswith(("HF_", "VLLAMA_", "MODELSCOPE_"))]:
        monkeypatch.delenv(name)
    python = tmp_path / "venv" / "bin" / "python3"
    (tmp_path / "venv" / "lib" / "python3.12" / "site-packages" / "vllm-0.32.0+cpu.dist-info").mkdir(parents=True)
    python.parent.mkdir()
    vllm = python.parent / "vllm"
    vllm.write_text(f"#!{python}\n")
    vllm.chmod(0o755)
    monkeypatch.setenv("VLLAMA_VLLM", str(vllm))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    monkeypatch.setenv("VLLAMA_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path / "config"


def model(config_dir: Path, name: str, **config: object) -> None:
    put(config_dir.parent / "hf" / "hub", name, FILES | {"config.json": json.dumps({**QWEN, **config}).encode()})


# init


def test_init_writes_what_the_server_reads(vllama: Vllama, config_dir: Path) -> None:
    model(config_dir, "Qwen/Qwen3-0.6B")
    model(config_dir, "Qwen/Qwen3-Embedding-0.6B", auto_map={"AutoModel": "x.Y"})
    result = vllama("init")
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"{config_dir}/models.yaml is written: 2 models, sized for the CPU with " in result.stdout
    manifest = load(config_dir / "models.yaml", environ={})
    assert [spec.memory_bytes is not None for spec in manifest.models.values()] == [True, True]
    assert manifest.models["Qwen/Qwen3-Embedding-0.6B"].launch.setting("runner") == "pooling"
    assert "# trust_remote_code: true" in (config_dir / "models.yaml").read_text()
    assert vllama("validate").stdout == "ok: 2 models\n"


def test_init_never_replaces_a_file_unless_told(vllama: Vllama, config_dir: Path) -> None:
    config_dir.mkdir()
    (config_dir / "models.yaml").write_text("org/mine: {}\n")
    refused = vllama("init")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "vllama init --force" in refused.stderr
    assert (config_dir / "models.yaml").read_text() == "org/mine: {}\n"
    answer = json.loads(vllama("init", "--force", "-o", "json").stdout)
    assert answer["models"] == []
    assert Path(answer["replaced"]).read_text() == "org/mine: {}\n"
    assert load(config_dir / "models.yaml", environ={}).models == {}


def test_init_says_which_models_it_could_not_size(vllama: Vllama, config_dir: Path) -> None:
    files = {"params.json": b'{"dim": 64}', "tekken.json": b"{}", "consolidated.safetensors": b"x"}
    put(config_dir.parent / "hf" / "hub", "mistralai/New-1", files)
    result = vllama("init")
    assert result.exit_code == 0
    assert "mistralai/New-1 is on disk and not in the file" in result.stderr
    assert (
        "# mistralai/New-1: chat; say its `memory`, it cannot be estimated" in (config_dir / "models.yaml").read_text()
    )


def test_init_where_nothing_can_be_written(vllama: Vllama, config_dir: Path) -> None:
    config_dir.write_text("a file")
    result = vllama("init")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "cannot be written" in result.stderr


# doctor


def test_a_sound_machine_exits_with_0(vllama: Vllama, config_dir: Path) -> None:
    model(config_dir, "Qwen/Qwen3-0.6B")
    assert vllama("init").exit_code == 0
    result = vllama("doctor", "--port", "0")
    assert result.exit_code == 0, result.stdout
    lines = {line.split()[1]: line for line in result.stdout.splitlines() if line.startswith(("ok ", "warn ", "fail "))}
    assert lines["vllm"].startswith("ok    vllm           0.32.0+cpu, built for the CPU: ")
    assert lines["models.yaml"].startswith(f"ok    models.yaml    {config_dir}/models.yaml: 1 model")
    assert "none runs" in lines["server"]


def test_what_fails_is_said_with_its_remedy_and_exits_with_1(vllama: Vllama, config_dir: Path) -> None:
    config_dir.mkdir()
    (config_dir / "models.yaml").write_text("org/a: {pinn: true}\norg/b: {pin: perhaps}\n")
    result = vllama("doctor", "--port", "0", "-o", "json")
    assert result.exit_code == 1
    failures = [each for each in json.loads(result.stdout) if each["verdict"] == "fail"]
    assert [each["check"] for each in failures] == ["models.yaml", "models.yaml"]
    assert "models.yaml:1: org/a: unknown key 'pinn'" in failures[0]["text"]
    assert all(each["mend"] for each in failures)


def test_without_vllm_it_fails(vllama: Vllama, config_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLAMA_VLLM", "/no/such/vllm")
    result = vllama("doctor", "--port", "0")
    assert result.exit_code == 1
    assert "VLLAMA_VLLM says '/no/such/vllm'" in result.stdout
    assert "Traceback" not in result.output


# info, schema, version


def test_info(vllama: Vllama, config_dir: Path, server: ScriptedServer) -> None:
    server.pages["/admin/info"], server.conditions = INFO, (BROKEN,)
    result = vllama("info", "--server", server.url)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:4] == [
        "! models.yaml:3: unknown key 'alias'",
        "",
        f"vllama 0.1.0 at {server.url}",
        "  process        pid 4242, up for 1h2m, 90.0 MiB",
    ]
    assert f"  OpenAI API     {server.url}/v1" in result.stdout
    assert f"  something      {server.url}/new" in result.stdout
    answer = json.loads(vllama("info", "-o", "json", "--server", server.url).stdout)
    assert answer == {**INFO, "url": server.url, "conditions": [BROKEN]}


@pytest.mark.parametrize(
    ("idle", "says"),
    [
        ({"sleep_after_s": 1800.0, "level": None, "stop_after_s": None}, "sleep after 30m at the level that fits best"),
        ({"sleep_after_s": 60.0, "level": 2, "stop_after_s": 3600.0}, "sleep after 1m at level 2, stop after 1h"),
        ({"sleep_after_s": 60.0, "level": 3, "stop_after_s": None}, "stop after 1m"),
        ({"sleep_after_s": None, "level": None, "stop_after_s": None}, "never sleep"),
    ],
)
def test_what_becomes_of_unused_models(
    vllama: Vllama, config_dir: Path, server: ScriptedServer, idle: dict[str, object], says: str
) -> None:
    server.pages["/admin/info"] = {**INFO, "idle": idle}
    lines = vllama("info", "--server", server.url).stdout.splitlines()
    assert next(line for line in lines if line.startswith("  unused models")) == f"  unused models  {says}"


def test_info_without_a_server_exits_with_3(vllama: Vllama, config_dir: Path) -> None:
    result = vllama("info")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "vllama serve" in result.stderr


def test_a_stale_pid_file_is_seen_through(vllama: Vllama, config_dir: Path) -> None:
    config_dir.mkdir()
    (config_dir / "server.pid").write_text('{"pid": 999999999, "host": "127.0.0.1", "port": 1}')
    result = vllama("info")
    assert result.exit_code == 3
    assert "names process 999999999, which no longer runs" in result.stderr
    assert vllama("doctor", "--port", "0").exit_code == 0


def test_schema_is_the_schema(vllama: Vllama) -> None:
    assert json.loads(vllama("schema").stdout) == manifest_schema()


def test_version_names_both(vllama: Vllama, config_dir: Path) -> None:
    first, second = vllama("version").stdout.splitlines()
    assert first.startswith("vllama ")
    assert second.startswith("vllm 0.32.0+cpu at ")
    answer = json.loads(vllama("version", "-o", "json").stdout)
    assert (answer["vllm"], answer["vllama"]) == ("0.32.0+cpu", first.split()[1])
    assert answer["python"].startswith("3.")


def test_the_option_tells_vllamas_own_and_looks_for_no_vllm(vllama: Vllama, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLAMA_VLLM", "/nowhere/vllm")
    assert vllama("--version").stdout == f"vllama {version('vllama')}\n"


@pytest.mark.parametrize("command", ["list", "pull", "rm", "init", "doctor", "info", "schema", "version"])
def test_help_says_how_the_command_exits(vllama: Vllama, command: str) -> None:
    result = vllama(command, "--help")
    assert result.exit_code == 0
    assert "Exit codes: 0" in result.stdout
    assert vllama(command, "--nonsense").exit_code == 2
