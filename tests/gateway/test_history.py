import json
import time
from dataclasses import replace

import msgspec
import pytest

from tests.gateway.house import MODEL, House, live, until
from vllama.domain.decision import Decision, Plan
from vllama.domain.observed import Awake, EngineObservation
from vllama.domain.reason import Reason
from vllama.domain.status import Phase


def test_events_are_listed_filtered_and_bounded() -> None:
    async def test(here: House) -> None:
        for number in range(5):
            here.control.events.record("Idle", f"m{number}", model=MODEL if number % 2 else None, warning=number == 3)
        listed = (await here.http.get("/admin/events")).json()["events"]
        assert [each["number"] for each in listed] == [1, 2, 3, 4, 5]
        assert listed[3] == listed[3] | {"model": MODEL, "reason": "Idle", "message": "m3", "warning": True}
        assert [each["message"] for each in (await here.http.get("/admin/events?limit=2")).json()["events"]] == [
            "m3",
            "m4",
        ]
        of_one = (await here.http.get("/admin/events", params={"model": "tiny", "limit": 1})).json()["events"]
        assert [each["message"] for each in of_one] == ["m3"]
        assert (await here.http.get("/admin/events?model=gone")).json() == {"events": []}
        assert (await here.http.get("/admin/events?limit=100000")).status_code == 400

    live(test)


def test_phases_are_told_as_stretches_of_time() -> None:
    async def test(here: House) -> None:
        awake = EngineObservation(
            engine_id="e", model=MODEL, spec_hash="h", node="here", devices=(0, 1), memory_bytes=1,
            state=Awake(ready_at=0.0), started_at=0.0,
        )  # fmt: skip
        replica = replace(awake, model=f"{MODEL}#2")
        stays = Decision(model=MODEL, reason=Reason.IDLE, message="m", before=Phase.READY, after=Phase.READY)
        other = msgspec.structs.replace(stays, model="org/b", before=Phase.STOPPED, after=Phase.STOPPED)
        plan = Plan(
            generation=1, snapshot_at=0.0, decisions=(stays, msgspec.structs.replace(stays, model=replica.model), other)
        )
        began = time.time()
        await here.control.history.load()
        here.control.history.note(plan, {MODEL: awake, replica.model: replica}, ())
        told = (await here.http.get("/admin/history", params={"seconds": 60})).json()
        assert told["now_s"] - told["from_s"] == pytest.approx(60)
        assert told["began_s"] == [pytest.approx(began, abs=20)]
        first, second = told["spans"]
        assert first == {
            "model": MODEL, "phase": "Ready", "node": "here", "devices": [0, 1], "from_s": pytest.approx(began, abs=20),
            "to_s": None, "reason": "Idle", "message": "m",
        }  # fmt: skip
        assert second["model"] == f"{MODEL}#2"
        of_one = (await here.http.get("/admin/history", params={"model": "tiny"})).json()["spans"]
        assert of_one == [first, second]
        assert (await here.http.get("/admin/history", params={"model": "org/b"})).json()["spans"] == []
        assert (await here.http.get("/admin/history?seconds=0")).status_code == 400

    live(test)


def test_events_are_streamed_as_lines_until_the_server_stops() -> None:
    async def test(here: House) -> None:
        events = here.control.events
        events.record("Idle", "before", model=MODEL)
        async with here.http.stream("GET", "/admin/events?follow=1&limit=1") as answer:
            assert answer.headers["content-type"] == "application/x-ndjson"
            lines = answer.aiter_lines()
            assert json.loads(await anext(lines))["message"] == "before"
            events.record("Idle", "then", model=MODEL)
            assert json.loads(await anext(lines))["message"] == "then"
            events.close()
            assert [line async for line in lines] == []

    live(test)


def test_events_as_server_sent_events_go_on_where_they_were() -> None:
    async def test(here: House) -> None:
        for number in range(3):
            here.control.events.record("Idle", f"m{number}")
        headers = {"accept": "text/event-stream", "last-event-id": "2"}
        async with here.http.stream("GET", "/admin/events?follow=1", headers=headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.aiter_lines()
            assert await anext(lines) == "id: 3"
            assert json.loads((await anext(lines)).removeprefix("data: "))["message"] == "m2"
            here.control.events.close()

    live(test)


def test_a_follower_that_leaves_is_forgotten() -> None:
    async def test(here: House) -> None:
        async with here.http.stream("GET", "/admin/events?follow=1") as answer:
            assert answer.status_code == 200
        await until(lambda: not here.server.server_state.tasks, "the stream's end")

    live(test)


def test_logs_are_the_last_lines_and_then_what_comes(tmp_path) -> None:
    async def test(here: House) -> None:
        here.control.logs = tmp_path
        log = here.control.log_of(MODEL).path
        assert (await here.http.get(f"/admin/models/{MODEL}/logs")).text == ""
        log.write_text("one\ntwo\nthree\n")
        answer = await here.http.get("/admin/models/tiny/logs?tail=2")
        assert (answer.text, answer.headers["content-type"]) == ("two\nthree\n", "text/plain; charset=utf-8")
        async with here.http.stream("GET", f"/admin/models/{MODEL}/logs?tail=1&follow=1") as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "three"
            with log.open("a") as engine:
                engine.write("four\n")
            assert await anext(lines) == "four"
            here.control.events.close()
            assert [line async for line in lines] == []
        here.control.log_of(MODEL, 2).path.write_text("of the second\n")
        assert (await here.http.get(f"/admin/models/{MODEL}/logs?replica=2")).text == "of the second\n"

    live(test)


@pytest.mark.parametrize(("path", "status"), [("nobody/logs", 404), (f"{MODEL}/logs?tail=999999", 400)])
def test_wrong_questions_about_logs(path: str, status: int) -> None:
    async def test(here: House) -> None:
        assert (await here.http.get(f"/admin/models/{path}")).status_code == status

    live(test)


def test_strangers_see_neither() -> None:
    async def test(here: House) -> None:
        for path in ("/admin/events", f"/admin/models/{MODEL}/logs"):
            assert (await here.http.get(path, headers={"x-forwarded-for": "203.0.113.9"})).status_code == 403

    live(test)
