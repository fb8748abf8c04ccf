"""Whatever is wrong is said on one screen, with what to do, and never as a traceback."""

import json
import re
import shutil
import socket
from pathlib import Path

import pytest

from tests.waiting import wait_until
from tests.whole.server import serve, vllama

ONE = "models: {org/A: {memory: 1GiB}}"


def refused(config_dir: Path, models: str, *args: str, **env: str) -> str:
    """What `vllama serve` says when it ends by itself with exit code 1."""
    server = serve(config_dir, models, *args, ready=False, **env)
    try:
        assert server.process.wait(30) == 1, server.log()
    finally:
        server.close()
    text = server.log()
    assert "Traceback" not in text
    assert len(text.splitlines()) <= 24
    return text


WRONG = """\
models:
  org/A: {memroy: 1GiB}
  org/B: {memory: much}
  org/C: {extra_args: {port: 1}}
  org/A: {memory: 2GiB}
"""


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ("models: {org/A: {memory: 1GiB", [r"models\.yaml:1"]),
        (
            WRONG,
            [
                r"models\.yaml:2: .*memroy.*memory", r"models\.yaml:3: .*much", r"models\.yaml:4: .*port",
                r"models\.yaml:5: .*org/A.*line 2",
            ],
        ),
    ],
    ids=["broken", "wrong-in-each-entry"],
)  # fmt: skip
def test_a_bad_file_names_the_line_and_the_remedy(tmp_path, models, said):
    text = refused(tmp_path / "config", models, "--simulate", "8GiB")
    checked = vllama("validate", str(tmp_path / "config" / "models.yaml"))
    assert checked.returncode == 1
    for each in said:
        assert re.search(each, text)
        assert re.search(each, checked.stdout + checked.stderr)


def test_a_port_in_use(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = refused(tmp_path / "config", ONE, "--simulate", "8GiB", "--port", str(port))
    assert f"Cannot listen on 127.0.0.1:{port}" in text
    assert "--port" in text


def test_no_vllm_installed(tmp_path):
    text = refused(tmp_path / "config", ONE, PATH="/nonexistent")
    assert "No vLLM found" in text
    assert "pip install vllm" in text
    assert "--simulate" in text


def test_no_gpu_for_a_vllm_that_needs_one(tmp_path):
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a GPU")
    fake = tmp_path / "vllm"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    text = refused(tmp_path / "config", ONE, VLLAMA_VLLM=str(fake))
    assert "No NVIDIA GPU can be used" in text
    assert "CPU build" in text


def test_simulated_devices_that_are_none(tmp_path):
    assert "write for example" in refused(tmp_path / "config", ONE, "--simulate", "lots")


def test_a_second_manager_on_one_directory_says_so_and_leaves_the_first_alone(start_server):
    first = start_server(ONE, "--simulate", "8GiB")
    text = refused(first.config_dir, ONE, "--simulate", "8GiB")
    assert f"Another vllama already serves {first.config_dir} (pid {first.process.pid})" in text
    assert json.loads((first.config_dir / "server.pid").read_text())["pid"] == first.process.pid
    assert first.chat("org/A").status_code == 200


def test_a_model_that_is_not_there(start_server):
    server = start_server(ONE, "--simulate", "8GiB")
    answer = server.chat("org/AA")
    assert answer.status_code == 404
    assert "org/A" in answer.json()["error"]["message"]
    command = server.cli("start", "org/AA")
    assert command.returncode == 1
    assert "org/A" in command.stderr
    assert "Traceback" not in command.stderr


def test_a_file_that_breaks_while_serving_leaves_the_last_good_one_in_force(start_server):
    server = start_server(ONE, "--simulate", "8GiB")
    (server.config_dir / "models.yaml").write_text("models: {org/A: {memroy: 1GiB}, org/B: {}}")
    wait_until(lambda: "memroy" in server.cli("ps").stdout, what="the error to show in ps")
    assert server.chat("org/A").status_code == 200
    assert server.chat("org/B").status_code == 404
    (server.config_dir / "models.yaml").write_text("models: {org/A: {memory: 1GiB}, org/B: {}}")
    wait_until(lambda: server.chat("org/B").status_code == 200, what="the mended file to be in force")


def test_an_engine_that_dies_while_loading_tells_its_waiters_why(start_server):
    server = start_server(ONE, "--simulate", "8GiB", VLLAMA_SIM_FAULTS="oom_at_load")
    answer = server.chat("org/A")
    assert answer.status_code == 503
    message = answer.json()["error"]["message"]
    assert "The engine of org/A failed" in message
    assert "memory" in message
    assert answer.headers["retry-after"]
    wait_until(lambda: server.phases()["org/A"] == "Stopped", what="its remains to be cleaned up")
    assert server.engines() == {}


def test_without_a_server_the_commands_say_how_to_get_one(tmp_path):
    result = vllama("ps", "--config-dir", str(tmp_path))
    assert result.returncode == 3
    assert "vllama serve" in result.stderr
