"""POST /api/pull through the real gateway: how it is answered, counted and logged. The hub is one of our own."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.house import House, live, until
from tests.hub import COMMIT, Hub, Model, running
from vllama.domain.spec import ModelSpec
from vllama.gateway.access.line import Json, Lines
from vllama.gateway.access.log import AccessLog
from vllama.gateway.access.outlet import Outlet
from vllama.gateway.guard import Guard

FILES = {"config.json": b"{}", "tokenizer.json": b"{ }", "model.safetensors": bytes(300_000)}
PULLED = ModelSpec(model="org/M")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running({"org/M": Model(commits={COMMIT: FILES})}) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


def logging_to(path: Path) -> dict[str, object]:
    def log(guard: Guard) -> AccessLog:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return AccessLog(Outlet(fd), Json(), Lines(keyring=guard.keyring, proxies=guard.proxies), every_s=0.01)

    return {"log": log}


def counts(here: House) -> dict[tuple[str, str, int], int]:
    """(model, outcome, status) -> how many."""
    meters = here.telling.meters.of
    return {(model, *key): count for model, meter in meters.items() for key, count in meter.requests.items()}


@pytest.mark.parametrize("stream", [True, False])
def test_a_pull_is_counted_with_its_bytes_and_has_a_line(hub: Hub, tmp_path: Path, *, stream: bool) -> None:
    log = tmp_path / "log"

    async def test(here: House) -> None:
        answer = await here.http.post("/api/pull", json={"model": "org/M", "stream": stream})
        assert json.loads(answer.text.splitlines()[-1]) == {"status": "success"}
        await until(lambda: counts(here) == {("org/M", "ok", 200): 1})
        meter = here.telling.meters.of["org/M"]
        assert meter.request_bytes == len(answer.request.content)
        assert meter.answer_bytes >= len(answer.content) > 0
        assert (sum(meter.durations), meter.at_once) == (0, 0)
        line = json.loads((await until(lambda: log.exists() and log.read_text(), "a line")).splitlines()[0])
        assert (line["path"], line["model"], line["outcome"]) == ("/api/pull", "org/M", "ok")
        assert (line["bytes_in"], line["bytes_out"]) == (meter.request_bytes, len(answer.content))

    live(test, PULLED, hub=tmp_path / "hub", **logging_to(log))


def test_while_it_lasts_it_is_in_flight_and_its_client_may_go(hub: Hub, tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def test(here: House) -> None:
        hub.faults.gate.clear()
        async with here.http.stream("POST", "/api/pull", json={"model": "org/M"}) as told:
            async for _ in told.aiter_lines():
                break
            assert "vllama_pulls_in_flight 1.0" in (await here.http.get("/metrics")).text
        await until(lambda: counts(here) == {("org/M", "client_gone", 499): 1}, "the client's leaving")
        hub.faults.gate.set()
        assert "vllama_pulls_in_flight 0.0" in (await here.http.get("/metrics")).text
        text = await until(lambda: log.exists() and "/api/pull" in (all_of := log.read_text()) and all_of, "a line")
        (line,) = [each for each in map(json.loads, text.splitlines()) if each["path"] == "/api/pull"]
        assert (line["status"], line["outcome"]) == (499, "client_gone")

    live(test, PULLED, hub=tmp_path / "hub", **logging_to(log))


def test_what_fails_is_counted_and_what_clients_make_up_is_no_label(hub: Hub, tmp_path: Path) -> None:
    async def test(here: House) -> None:
        for stream, status in ((True, 200), (False, 500)):
            answer = await here.http.post("/api/pull", json={"model": "org/none", "stream": stream})
            assert (answer.status_code, "has no model org/none" in answer.text) == (status, True)
        assert (await here.http.post("/api/pull", json={"model": "../x"})).status_code == 400
        await until(lambda: counts(here) == {("", "pull_failed", 500): 2, ("", "refused", 400): 1})

    live(test, hub=tmp_path / "hub")
