"""A download from the hub, told as it goes: the real huggingface_hub, a hub of our own."""

import asyncio
import random
from typing import Any

import pytest

from tests.hub import COMMIT, Model, running
from tests.waiting import wait_until
from vllama.engine.cache import find
from vllama.gateway.ollama.pull import pulling

FILES = {
    "config.json": b"{}", "tokenizer.json": b"{ }", "model.safetensors": random.Random(4).randbytes(300_000),
    "README.md": b"hello", "pytorch_model.bin": bytes(1000),
}  # fmt: skip
TOTAL = sum(len(FILES[name]) for name in ("config.json", "model.safetensors", "tokenizer.json"))


class Rescans:
    def __init__(self) -> None:
        self.count = 0

    async def rescan(self) -> None:
        self.count += 1


@pytest.fixture
def hub(monkeypatch):
    with running({"org/M": Model(commits={COMMIT: FILES})}) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


def pull(name, tmp_path, control=None) -> list[dict[str, Any]]:
    async def run():
        return [each async for each in pulling(control or Rescans(), name, tmp_path)]

    return asyncio.run(run())


def test_a_pull_fetches_what_an_engine_needs_and_nothing_else(hub, tmp_path):
    control = Rescans()
    found = pull("org/M", tmp_path, control)
    assert found[0] == {"status": "pulling manifest"}
    assert found[-2] == {"status": f"pulling {COMMIT[:12]}", "digest": COMMIT, "total": TOTAL, "completed": TOTAL}
    assert (found[-1], control.count) == ({"status": "success"}, 1)
    assert hub.contents("model.safetensors") == [None]
    assert hub.contents("pytorch_model.bin") == []
    assert find(tmp_path, "org/M").complete


def test_its_bytes_are_told_as_they_come(hub, tmp_path):
    hub.faults.gate.clear()

    async def run():
        found = []
        async for each in pulling(Rescans(), "org/M", tmp_path):
            found.append(each)
            if 100_000 < each.get("completed", 0) < TOTAL:
                hub.faults.gate.set()
        return found

    found = asyncio.run(run())
    assert hub.faults.gate.is_set()
    completed = [each["completed"] for each in found if "completed" in each]
    assert completed == sorted(completed)
    assert found[-1] == {"status": "success"}


def test_a_client_that_goes_ends_it_and_the_next_goes_on_from_there(hub, tmp_path):
    hub.faults.gate.clear()

    async def leave():
        told = pulling(Rescans(), "org/M", tmp_path)
        async for each in told:
            if each.get("completed", 0) > 100_000:
                break
        await told.aclose()

    asyncio.run(leave())
    hub.faults.gate.set()
    partial = next((tmp_path / "models--org--M" / "blobs").glob("*.incomplete"))
    have = partial.stat().st_size
    assert not find(tmp_path, "org/M").complete
    hub.asked.clear()
    assert wait_until(lambda: pull("org/M", tmp_path)[-1], what="the lock to be free") == {"status": "success"}
    (wanted,) = hub.contents("model.safetensors")
    assert int(wanted.removeprefix("bytes=").rstrip("-")) >= have


def test_what_the_hub_does_not_have_is_said(hub, tmp_path, monkeypatch):
    assert "has no model org/other" in pull("org/other", tmp_path)[-1]["error"]
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    error = pull("org/M", tmp_path)[-1]["error"]
    assert "http://127.0.0.1:9 cannot be reached" in error
    assert "\n" not in error
