"""A model from a hub, through a real server, to an answer; and away again."""

import json
import random
from pathlib import Path

from tests.hub import COMMIT, Model, running
from tests.waiting import wait_until
from tests.whole.server import vllama

FILES = {
    "config.json": b'{"architectures": ["Qwen3ForCausalLM"]}', "tokenizer.json": b"{}",
    "model.safetensors": random.Random(3).randbytes(200_000),
}  # fmt: skip


def test_what_is_pulled_can_be_called_and_what_runs_is_not_removed(start_server, tmp_path: Path):
    cache = str(tmp_path / "hub")
    server = start_server("models: {}\n", "--simulate", "8GiB", VLLAMA_TRANSFORMERS_CACHE=cache)
    assert server.chat("org/new").status_code == 404
    here = {"VLLAMA_TRANSFORMERS_CACHE": cache, "VLLAMA_CONFIG_DIR": str(server.config_dir)}
    with running({"org/new": Model(commits={COMMIT: FILES})}) as hub:
        pulled = vllama("pull", "org/new", HF_ENDPOINT=hub.url, **here)
    assert (pulled.returncode, pulled.stderr) == (0, "")
    assert f"The server at {server.url} can be asked for it." in pulled.stdout
    assert server.chat("org/new").status_code == 200

    (listed,) = json.loads(vllama("list", "-o", "json", **here).stdout)
    assert (listed["model"], listed["phase"], listed["complete"]) == ("org/new", "Ready", True)
    refused = vllama("rm", "org/new", "--yes", **here)
    assert refused.returncode == 1
    assert "an engine of org/new is Ready" in refused.stderr

    server.http.post(f"{server.url}/admin/models/org/new/stop")
    wait_until(lambda: server.phases()["org/new"] == "Stopped", what="its engine to be gone")
    assert vllama("rm", "org/new", "--yes", **here).returncode == 0
    assert server.ps() == {}


def test_the_server_tells_what_it_is_and_takes_up_a_change_at_once(start_server):
    server = start_server("models: {org/a: {memory: 1GiB}}\n", "--simulate", "8GiB")
    here = {"VLLAMA_CONFIG_DIR": str(server.config_dir)}
    info = json.loads(vllama("info", "-o", "json", **here).stdout)
    assert (info["pid"], info["url"], info["simulated"]) == (server.process.pid, server.url, True)
    assert info["models_yaml"] == str(server.config_dir / "models.yaml")
    (server.config_dir / "models.yaml").write_text("models: {org/a: {memory: 1GiB}, org/b: {memory: 1GiB}}\n")
    assert server.http.post(f"{server.url}/admin/reload").json()["models"] == ["org/a", "org/b"]
    findings = json.loads(vllama("doctor", "-o", "json", **(here | {"VLLAMA_PORT": str(info["port"])})).stdout)
    told = {each["check"]: each["text"] for each in findings}
    assert told["port"] == f"{info['port']}: the server that runs here has it"
    assert told["server"].startswith(f"{server.url}, pid {server.process.pid}, up for ")
