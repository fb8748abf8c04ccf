"""Files in the forms that older tools shipped and wrote work as they are."""

import json
import tomllib
from pathlib import Path

from dotenv import dotenv_values

from tests.whole.server import serve, vllama
from vllama.controller.manifest.load import load, load_bytes
from vllama.controller.manifest.servers import BalanceSpec, ServerSpec, balance_keys
from vllama.domain.spec import SleepLevel

OLDER = Path(__file__).parent / "older"


def test_its_example_is_served_unchanged(tmp_path: Path) -> None:
    example = OLDER / "models.example.yaml"
    assert vllama("validate", str(example)).stdout == "ok: 4 models\n"
    server = serve(tmp_path / "config", example.read_text(), "--simulate", "2x80GiB", VLLAMA_UNLOAD_MODE="2")
    try:
        assert server.chat("Qwen3-30B-A3B-Instruct-2507").status_code == 200
        assert server.ps()["Qwen/Qwen3-30B-A3B-Instruct-2507"]["devices"] == [1]
        sizes = {"model": "Qwen/Qwen3-Embedding-0.6B", "input": "hello"}
        assert server.http.post(f"{server.url}/v1/embeddings", json=sizes).status_code == 200
        assert server.ps()["Qwen/Qwen3-Embedding-0.6B"]["memory_bytes"] == 24 << 30
    finally:
        server.close()


def test_what_its_commands_wrote_is_valid() -> None:
    models = load(OLDER / "models.written.yaml", environ={}).models
    chat, warm = models["org/chat"], models["org/warm"]
    assert (chat.devices, chat.device_count, chat.launch.port, warm.auto_start) == ((0, 1), 2, 33301, True)
    assert dict(chat.launch.settings)["max_num_seqs"] == 256
    assert dict(warm.launch.settings)["max_model_len"] == 2048


def test_the_environment_of_its_compose_file_counts(tmp_path: Path) -> None:
    environ = {name: value or "" for name, value in dotenv_values(OLDER / "compose.env").items()}
    told = vllama("config", "-o", "json", "--config-dir", str(tmp_path), **environ)
    rows = {row["name"]: row for row in json.loads(told.stdout)}
    assert {name: (rows[name]["value"], rows[name]["from"]) for name in environ} == {
        name: (value, "environment") for name, value in environ.items()
    }
    idle = load(tmp_path / "models.yaml", environ=environ).undeclared.idle
    assert (idle.sleep_after_s, idle.level) == (1800.0, SleepLevel.DISCARDED)


def test_the_configuration_of_mvllm_is_taken_over_as_it_is(tmp_path: Path) -> None:
    told = vllama("import", str(OLDER / "servers.toml"), "--config-dir", str(tmp_path))
    assert told.returncode == 0, told.stderr
    assert vllama("validate", "--config-dir", str(tmp_path)).stdout == "ok: 0 models, 3 servers\n"


def test_the_configuration_of_mvllm_says_the_same_here() -> None:
    """Its two tables are `servers:` and `balance:`, key by key."""
    said = tomllib.loads((OLDER / "servers.toml").read_text())
    document = {"servers": said["servers"]["servers"], "balance": said["config"]}
    manifest = load_bytes(json.dumps(document).encode(), file="models.yaml", environ={})
    assert manifest.servers == (
        ServerSpec(url="http://gpu-server-1:8081"),
        ServerSpec(url="http://gpu-server-2:8088", max_concurrent_requests=5),
        ServerSpec(url="http://gpu-server-3:8089"),
    )
    assert manifest.balance == BalanceSpec(request_timeout_s=120.0)  # all others are the same unsaid
    keys = balance_keys(manifest.balance)
    assert {key: keys[key] for key in said["config"] if key != "config_reload_interval"} == {
        key: value for key, value in said["config"].items() if key != "config_reload_interval"
    }
