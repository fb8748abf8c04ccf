"""list, pull and rm as typed: a real cache on disk, a hub and an admin API that are real HTTP."""

import json
import os
import pty
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.answers import a_running, a_status
from tests.cli.scripted import ScriptedServer
from tests.engine.test_cache import FILES, in_modelscope, put, unfinished
from tests.hub import COMMIT, LATER, Hub, Model, running
from tests.waiting import wait_until

Vllama = Callable[..., Result]

VLLAMA = [sys.executable, "-c", "from vllama.cli.app import main; main()"]
WEIGHTS = random.Random(2).randbytes(3 << 20)
ON_HUB = {
    "config.json": b'{"architectures": ["Qwen3ForCausalLM"]}', "tokenizer.json": b"{}", "model.safetensors": WEIGHTS,
    "pytorch_model.bin": WEIGHTS, "README.md": b"#",
}  # fmt: skip


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running({"a/b": Model(commits={COMMIT: ON_HUB, LATER: ON_HUB}, refs={"main": COMMIT, "v2": LATER})}) as hub:
        yield hub


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty machine: no server, no models, no settings of the user's."""
    for name in [name for name in os.environ if name.startswith(("HF_", "VLLAMA_", "MODELSCOPE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    monkeypatch.setenv("VLLAMA_CONFIG_DIR", str(tmp_path / "config"))
    (tmp_path / "config").mkdir()
    return tmp_path / "hf" / "hub"


def declare(cache: Path, text: str) -> None:
    (cache.parents[1] / "config" / "models.yaml").write_text(text)


def listed(vllama: Vllama, *arguments: object) -> dict[str, dict[str, object]]:
    result = vllama("list", "-o", "json", *arguments)
    assert result.exit_code == 0, result.stderr
    return {each["model"]: each for each in json.loads(result.stdout)}


@pytest.fixture
def pull(vllama: Vllama, cache: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    def run(environ: dict[str, str], *arguments: object) -> Result:
        for name, value in {"HF_ENDPOINT": hub.url, **environ}.items():
            monkeypatch.setenv(name, value)
        return vllama("pull", *arguments)

    return run


# list


def test_an_empty_machine_says_what_to_do(vllama: Vllama, cache: Path) -> None:
    result = vllama("list")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "vllama pull" in result.stdout
    assert listed(vllama) == {}


def test_models_of_all_places(vllama: Vllama, cache: Path, tmp_path: Path) -> None:
    put(cache, "Qwen/Qwen3-0.6B", FILES)
    put(cache, "org/half", {"config.json": b"{}", "tokenizer.json": b"{}", "m-00002-of-00003.safetensors": b"x"})
    in_modelscope(tmp_path / "modelscope" / "models", "BAAI/bge-m3", FILES | {"modules.json": b"[]"})
    mine = in_modelscope(tmp_path, "mine/ranker")
    declare(
        cache,
        f"models:\n  our/reranker: {{path: {mine}}}\n  Qwen/Qwen3-0.6B: {{aliases: [small]}}\n  org/absent: {{}}\n",
    )
    found = listed(vllama)
    assert list(found) == ["BAAI/bge-m3", "Qwen/Qwen3-0.6B", "org/absent", "org/half", "our/reranker"]
    assert [each["type"] for each in found.values()] == ["embedding", "chat", "chat", "chat", "rerank"]
    assert [each["declared"] for each in found.values()] == [False, True, True, False, True]
    assert [each["complete"] for each in found.values()] == [True, True, False, False, True]
    assert found["org/half"]["missing"] == ["m-00001-of-00003.safetensors", "m-00003-of-00003.safetensors"]
    assert found["our/reranker"]["directory"] == str(mine)
    assert found["Qwen/Qwen3-0.6B"]["aliases"] == ["small"]
    assert {each["phase"] for each in found.values()} == {None}
    text = vllama("ls").stdout
    assert "incomplete, lacks m-00001-of-00003.safetensors, m-00003-of-00003.safetensors" in text
    assert "not here: fetched by its first call" in text


def test_a_server_tells_the_phases(vllama: Vllama, cache: Path, server: ScriptedServer) -> None:
    put(cache, "org/a", FILES)
    server.statuses = [[a_running("org/a", "Asleep", sleep_level=1), a_status("org/elsewhere")]]
    found = listed(vllama, "--server", server.url)
    assert found["org/a"]["phase"] == "Asleep (L1)"
    assert (found["org/elsewhere"]["phase"], found["org/elsewhere"]["size_bytes"]) == ("Stopped", None)


def test_a_server_that_does_not_answer_is_said_and_the_rest_is_shown(vllama: Vllama, cache: Path) -> None:
    put(cache, "org/a", FILES)
    result = vllama("list", "--server", "http://127.0.0.1:9")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: no vllama server answers at http://127.0.0.1:9")
    assert "org/a" in result.stdout


def test_a_models_yaml_with_a_mistake_is_said_and_the_rest_is_shown(vllama: Vllama, cache: Path) -> None:
    put(cache, "org/a", FILES)
    declare(cache, "models:\n  org/b: {pinn: true}\n")
    result = vllama("list")
    assert result.exit_code == 0
    assert "models.yaml:2: org/b: unknown key 'pinn'" in result.stderr
    assert "org/a" in result.stdout


def test_what_vllm_said_of_a_model_counts_more_than_its_files(vllama: Vllama, cache: Path) -> None:
    put(cache, "org/a", FILES)
    entry = {"supported_tasks": ["token_embed", "embed"]}
    profiles = {"version": 1, "profiles": {"org/a | 123456789abc | vllm 1 | x": entry}}
    (cache.parents[1] / "config" / "profiles.json").write_text(json.dumps(profiles))
    assert listed(vllama)["org/a"]["type"] == "embedding"


def test_a_declared_revision_is_the_one_that_is_looked_at(vllama: Vllama, cache: Path) -> None:
    put(cache, "org/a", FILES)
    declare(cache, "org/a: {revision: r2}")
    assert listed(vllama)["org/a"]["size_bytes"] is None
    snapshot = put(cache, "org/a", {"config.json": b"{}"}, revision="r2", main=None)
    found = listed(vllama)["org/a"]
    assert (found["directory"], found["complete"]) == (str(snapshot), False)


# pull


def test_a_model_is_pulled_and_the_server_is_told(
    vllama: Vllama, cache: Path, hub: Hub, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    server.asked = 200, {"models": ["a/b"], "conditions": []}
    result = vllama("pull", "a/b", "--server", server.url)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == (
        f"a/b at {COMMIT[:12]}: 3 files, 3.0 MiB; 3.0 MiB that vLLM does not read stay there."
    )  # fmt: skip
    assert sorted(lines[1:4]) == ["  config.json  39 B", "  model.safetensors  3.0 MiB", "  tokenizer.json  2 B"]
    assert lines[4:] == [f"a/b is complete: 3.0 MiB in {cache}.", f"The server at {server.url} can be asked for it."]
    assert ("POST", "/admin/reload", None) in server.requests
    assert listed(vllama)["a/b"]["complete"]


def test_pull_as_json_keeps_stdout_for_the_answer(
    vllama: Vllama, cache: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    result = vllama("pull", "https://huggingface.co/a/b", "--revision", "v2", "-o", "json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert (answer["model"], answer["revision"], answer["commit"]) == ("a/b", "v2", LATER)
    assert (answer["complete"], answer["server"], answer["callable"]) == (True, None, False)
    assert Path(answer["directory"], "config.json").exists()
    assert "model.safetensors" in result.stderr


def test_an_alias_means_the_model_and_revision_of_models_yaml(
    vllama: Vllama, cache: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    declare(cache, "a/b: {aliases: [it], revision: v2}\nc/d: {path: /srv/d}")
    answer = json.loads(vllama("pull", "it", "-o", "json").stdout)
    assert (answer["model"], answer["commit"]) == ("a/b", LATER)
    refused = vllama("pull", "c/d")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "models.yaml takes c/d from /srv/d" in refused.stderr


@pytest.mark.parametrize(
    ("environ", "arguments", "says"),
    [
        ({}, ["no/such"], "has no model no/such, or does not show it to you"),
        ({}, ["a/b", "--revision", "v9"], "no branch, tag or commit 'v9'"),
        ({}, ["a b"], "'a b' is no name of a model of the hub"),
        ({"HF_HUB_OFFLINE": "1"}, ["a/b"], "HF_HUB_OFFLINE is set"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, ["a/b"], "http://127.0.0.1:9 cannot be reached"),
    ],
)
def test_what_cannot_be_pulled_is_said_in_one_message(
    pull: Callable[..., Result], environ: dict[str, str], arguments: list[str], says: str
) -> None:
    result = pull(environ, *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_a_model_of_which_the_hub_lacks_something_is_not_called_complete(
    vllama: Vllama, cache: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    hub.models["a/b"].commits[COMMIT] = {k: v for k, v in ON_HUB.items() if k != "tokenizer.json"}
    result = vllama("pull", "a/b")
    assert result.exit_code == 1
    assert "all that the hub has of a/b is here, and vLLM needs more: tokenizer.json." in result.stderr


def test_an_adapter_is_fetched_and_called_what_it_is(
    vllama: Vllama, cache: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    hub.models["a/lora"] = Model(commits={COMMIT: {"adapter_config.json": b"{}", "adapter_model.safetensors": WEIGHTS}})
    result = vllama("pull", "a/lora")
    assert result.exit_code == 0
    assert "it is a LoRA adapter" in result.stderr


def environment(cache: Path, hub: Hub) -> dict[str, str]:
    return {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(cache.parent), "PYTHONUNBUFFERED": "1"}


def partial_bytes(cache: Path) -> int:
    found = list((cache / "models--a--b" / "blobs").glob("*.incomplete"))
    return found[0].stat().st_size if found else 0


def test_ctrl_c_keeps_what_has_come_and_the_same_command_goes_on(cache: Path, hub: Hub) -> None:
    hub.faults.gate.clear()
    command = subprocess.Popen(
        [*VLLAMA, "pull", "a/b"], env=environment(cache, hub), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: partial_bytes(cache) >= 1 << 20, what="some of the weights to come")
    command.send_signal(signal.SIGINT)
    _, stderr = command.communicate(timeout=15)
    assert command.returncode == 130
    assert stderr.startswith("error: interrupted; 1.")
    assert "of 3.0 MiB are kept, and the same command goes on from there.\n" in stderr
    hub.faults.gate.set()
    have = partial_bytes(cache)
    hub.asked.clear()
    again = subprocess.run(
        [*VLLAMA, "pull", "a/b"], env=environment(cache, hub), capture_output=True, text=True, timeout=30, check=False
    )
    assert (again.returncode, again.stderr) == (0, "")
    assert "of which 1." in again.stdout.splitlines()[0]
    assert hub.contents("model.safetensors") == [f"bytes={have}-"]


def test_on_a_terminal_there_are_bars(cache: Path, hub: Hub) -> None:
    hub.faults.gate.clear()
    main, other = pty.openpty()
    command = subprocess.Popen(
        [*VLLAMA, "pull", "a/b"], env=environment(cache, hub) | {"COLUMNS": "80", "TERM": "xterm"}, stdout=other,
        stderr=other, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(other)
    said = b""
    while b"model.safetensors" not in said:
        said += os.read(main, 4096)
    hub.faults.gate.set()
    try:
        while piece := os.read(main, 4096):
            said += piece
    except OSError:  # the other end is closed
        pass
    os.close(main)
    assert command.wait(20) == 0
    assert "in all" in said.decode()
    assert "a/b is complete" in said.decode()


# rm


def test_a_model_is_removed_and_the_server_is_told(
    vllama: Vllama, cache: Path, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache, "org/a", FILES | {"model.safetensors": bytes(2 << 20)})
    put(cache, "org/b", FILES)
    server.statuses = [[a_status("org/a"), a_running("org/b")]]
    server.asked = 200, {"models": [], "conditions": []}
    result = vllama("rm", "a", "--yes", "--server", server.url)
    assert (result.exit_code, result.stdout) == (0, "org/a is removed; 2.0 MiB are free again.\n")
    assert ("POST", "/admin/reload", None) in server.requests
    assert list(listed(vllama)) == ["org/b"]


@pytest.mark.parametrize("phase", ["Ready", "Asleep", "Starting", "Unknown", "Draining"])
def test_not_while_an_engine_of_it_is_there(vllama: Vllama, cache: Path, server: ScriptedServer, phase: str) -> None:
    put(cache, "org/a", FILES)
    server.statuses = [[a_running("org/a", phase)]]
    result = vllama("rm", "org/a", "--yes", "--server", server.url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"an engine of org/a is {phase}" in result.stderr
    assert "vllama stop org/a" in result.stderr
    assert listed(vllama)["org/a"]["complete"]


def test_not_while_another_model_is_served_from_its_files(vllama: Vllama, cache: Path, server: ScriptedServer) -> None:
    snapshot = put(cache, "org/a", FILES)
    declare(cache, f"our/name: {{path: {snapshot}}}")
    server.statuses = [[a_running("our/name")]]
    result = vllama("rm", "org/a", "--yes", "--server", server.url)
    assert result.exit_code == 1
    assert "an engine of our/name is Ready and uses these files" in result.stderr


def test_not_while_nobody_knows_whether_it_runs(vllama: Vllama, cache: Path) -> None:
    put(cache, "org/a", FILES)
    result = vllama("rm", "org/a", "--yes", "--server", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "not known whether an engine of it runs" in result.stderr
    assert listed(vllama)["org/a"]["complete"]


def test_without_a_yes_nothing_is_removed(vllama: Vllama, cache: Path) -> None:
    put(cache, "org/a", FILES)
    result = vllama("rm", "org/a")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Say --yes if it is meant" in result.stderr
    assert listed(vllama)["org/a"]["complete"]


def test_half_a_download_is_removed_too(vllama: Vllama, cache: Path) -> None:
    unfinished(cache, "org/a")
    (cache / "models--org--a" / "snapshots" / "r1").mkdir(parents=True)
    answer = json.loads(vllama("rm", "org/a", "--yes", "-o", "json").stdout)
    assert answer == {"model": "org/a", "freed_bytes": 2048, "directory": str(cache / "models--org--a")}
    assert listed(vllama) == {}


def test_what_is_declared_says_that_it_may_come_back(vllama: Vllama, cache: Path) -> None:
    put(cache, "org/a", FILES)
    declare(cache, "org/a: {aliases: [x]}")
    assert "would fetch it again" in vllama("rm", "x", "--yes").stdout


def test_a_directory_of_ones_own_stays(vllama: Vllama, cache: Path, tmp_path: Path) -> None:
    mine = in_modelscope(tmp_path, "my/model")
    declare(cache, f"org/a: {{path: {mine}}}")
    result = vllama("rm", "org/a", "--yes")
    assert result.exit_code == 1
    assert "a directory of yours, which stays" in result.stderr
    assert (mine / "config.json").exists()


def test_what_is_not_there_cannot_be_removed(vllama: Vllama, cache: Path) -> None:
    put(cache, "org/alpha", FILES)
    result = vllama("rm", "org/alhpa", "--yes")
    assert result.exit_code == 1
    assert "Nearest: org/alpha" in result.stderr
    declare(cache, "org/beta: {}")
    assert "org/beta is not on disk" in vllama("rm", "org/beta", "--yes").stderr
