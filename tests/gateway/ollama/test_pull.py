"""A download from the hub, told as it goes: the real huggingface_hub, a hub of our own."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from tests.gateway.ollama.hub import SHA, Hub
from tests.waiting import wait_until
from vllama.engine.cache import find
from vllama.engine.hub import hub_name

FILES = {
    "config.json": b"{}", "tokenizer.json": b"{ }", "model.safetensors": bytes(300_000),
    "README.md": b"hello", "pytorch_model.bin": bytes(1000),
}  # fmt: skip
NEEDED = ["config.json", "model.safetensors", "tokenizer.json"]
PULL = """
    import asyncio, json, pathlib, sys, threading
    from vllama.gateway.ollama.pull import pulling

    class Control:
        async def rescan(self):
            print(json.dumps("rescan"), flush=True)

    async def run():
        told = pulling(Control(), sys.argv[1], pathlib.Path(sys.argv[2]))
        async for each in told:
            print(json.dumps(each), flush=True)
            if "completed" in each and len(sys.argv) > 3:
                sys.stdin.readline()
                break
        await told.aclose()
        print(json.dumps("left"), flush=True)
        for thread in threading.enumerate():
            if thread.name.startswith("pull"):
                thread.join()

    asyncio.run(run())
"""


@pytest.fixture
def hub():
    served = Hub("org/M", FILES)
    yield served
    served.close()


def pull(hub: Hub, *args: object) -> subprocess.Popen:
    """In a process of its own: huggingface_hub reads its environment when it is imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env = kept | {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "no_proxy": "*"}
    command = [sys.executable, "-c", textwrap.dedent(PULL), *map(str, args)]
    return subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip


def lines(process: subprocess.Popen) -> list:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


def test_a_pull_fetches_what_an_engine_needs_and_nothing_else(hub, tmp_path):
    found = lines(pull(hub, "org/M", tmp_path))
    total = sum(len(FILES[name]) for name in NEEDED)
    assert found[0] == {"status": "pulling manifest"}
    assert found[-4] == {"status": f"pulling {SHA[:12]}", "digest": SHA, "total": total, "completed": total}
    assert found[-3:] == ["rescan", {"status": "success"}, "left"]
    assert sorted(hub.fetched) == sorted(NEEDED)
    assert find(tmp_path, "org/M").complete


def test_its_bytes_are_told_as_they_come(hub, tmp_path):
    hub.gate.clear()
    process = pull(hub, "org/M", tmp_path)
    seen = []
    while not seen or seen[-1].get("completed") is None:
        seen.append(json.loads(process.stdout.readline()))
    assert seen[-1]["completed"] < seen[-1]["total"]
    hub.gate.set()
    found = lines(process)
    assert found[-2] == {"status": "success"}
    completed = [each["completed"] for each in (*seen, *found) if "completed" in each]
    assert completed == sorted(completed)


def test_a_client_that_goes_ends_it_with_the_file_under_way(hub, tmp_path):
    hub.gate.clear()
    process = pull(hub, "org/M", tmp_path, "leaves")
    wait_until(lambda: hub.fetched, deadline_s=40, what="the first file to be asked for")
    process.stdin.write("\n")
    process.stdin.flush()
    while json.loads(process.stdout.readline()) != "left":
        pass
    hub.gate.set()
    assert lines(process) == []
    assert len(hub.fetched) == 1
    assert find(tmp_path, "org/M") is None or not find(tmp_path, "org/M").complete
    assert lines(pull(hub, "org/M", tmp_path))[-2] == {"status": "success"}


def test_what_the_hub_does_not_have_is_said(hub, tmp_path):
    found = lines(pull(hub, "org/other", tmp_path))
    assert "the hub has no model org/other" in found[-2]["error"]
    hub.close()
    assert "org/M could not be fetched" in lines(pull(hub, "org/M", tmp_path))[-2]["error"]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("Qwen/Qwen3-8B:latest", "Qwen/Qwen3-8B"),
        ("hf.co/Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("https://huggingface.co/Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("gpt2", "gpt2"),
        ("Qwen/Qwen3-8B:q4", None),
        ("a/b/c", None),
        ("..", None),
        ("", None),
    ],
)
def test_names_of_the_hub(written, name):
    assert hub_name(written) == name
