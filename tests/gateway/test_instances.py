"""The older tool's paths, as its scripts call them."""

import asyncio
from dataclasses import replace

import pytest

from tests.gateway.house import MODEL, House, live, until
from vllama.controller.demand import Failure
from vllama.domain.spec import SleepLevel
from vllama.domain.status import ModelStatus, Phase
from vllama.gateway.instances import _word


def test_a_start_answers_when_the_model_is_ready() -> None:
    async def test(here: House) -> None:
        starting = asyncio.create_task(here.http.post(f"/instances/{MODEL}/start"))
        await until(lambda: here.waiting, "the start to wait")
        assert here.control.asked == [("start", MODEL)]
        here.open()
        answer = await starting
        assert (answer.status_code, answer.json()["status"], answer.json()["model_id"]) == (200, "success", MODEL)
        assert {"port", "pid"} <= answer.json().keys()

    live(test)


def test_a_start_that_fails_says_why_in_detail() -> None:
    async def test(here: House) -> None:
        starting = asyncio.create_task(here.http.post("/instances/tiny/start"))
        await until(lambda: here.waiting, "the start to wait")
        here.control.board.fail_waiters(MODEL, Failure(status=503, code="cannot_fit", message="Needs 30 GiB."))
        answer = await starting
        assert (answer.status_code, answer.json()) == (500, {"detail": "Needs 30 GiB."})

    live(test)


def test_stop_and_sleep_answer_when_it_is_down() -> None:
    async def test(here: House) -> None:
        answer = await here.http.post(f"/instances/{MODEL}/stop")
        assert (answer.status_code, answer.json()) == (200, {"status": "success", "model_id": MODEL})
        here.control.phase = Phase.ASLEEP
        answer = await here.http.post(f"/instances/{MODEL}/sleep")
        assert answer.json() == {"status": "success", "model_id": MODEL, "level": 2}
        await here.http.post(f"/instances/{MODEL}/sleep?level=1")
        assert here.control.asked == [
            ("stop", MODEL), ("sleep", MODEL, SleepLevel(2)), ("sleep", MODEL, SleepLevel(1)),
        ]  # fmt: skip

    live(test)


def test_what_cannot_be() -> None:
    async def test(here: House) -> None:
        for verb in ("start", "stop", "sleep"):
            answer = await here.http.post(f"/instances/nope/{verb}")
            assert (answer.status_code, list(answer.json())) == (404, ["detail"])
        stopped = await here.http.post(f"/instances/{MODEL}/sleep")
        assert (stopped.status_code, list(stopped.json())) == (400, ["detail"])
        assert (await here.http.post(f"/instances/{MODEL}/sleep?level=4")).status_code == 400
        assert here.control.asked == []

    live(test)


def test_the_list_has_who_is_not_stopped() -> None:
    async def test(here: House) -> None:
        assert (await here.http.get("/instances")).json() == {"instances": []}
        here.open()
        (one,) = (await here.http.get("/instances")).json()["instances"]
        assert (one["model_id"], one["status"]) == (MODEL, "running")
        assert set(one) == {
            "model_id", "status", "port", "pid", "devices", "start_time", "last_request_time", "sleep_level",
            "memory_delta", "gpu_memory_info",
        }  # fmt: skip

    live(test)


def test_every_phase_has_a_word_of_the_older_tool() -> None:
    words = {"running", "starting", "sleeping_l1", "sleeping_l2", "stopping", "stopped", "error"}
    quiet = ModelStatus(model=MODEL, phase=Phase.READY, reason="", message="", declared=True)
    said = {_word(replace(quiet, phase=phase, sleep_level=level)) for phase in Phase for level in (1, 2)}
    assert said == words


def test_reload_answers_as_it_did() -> None:
    async def test(here: House) -> None:
        answer = await here.http.post("/reload")
        assert answer.json() == {"status": "success", "models_count": 1, "offline_mode": False}
        assert here.control.asked == [("rescan",)]

    live(test)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/instances"), ("POST", f"/instances/{MODEL}/stop"), ("POST", "/reload"), ("GET", "/%69nstances")],
)
def test_strangers_are_refused_as_by_the_admin_api(method: str, path: str) -> None:
    async def test(here: House) -> None:
        answer = await here.http.request(method, path, headers={"origin": "http://evil.example"})
        assert answer.status_code == 403
        assert here.control.asked == []

    live(test)
