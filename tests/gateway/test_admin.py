import os

import pytest

from tests.gateway.house import MODEL, House, live
from vllama.controller.condition import Condition
from vllama.domain.decision import Decision, Plan
from vllama.domain.reason import Reason
from vllama.domain.spec import SleepLevel
from vllama.domain.status import Phase

DECISION = Decision(
    model=MODEL, reason=Reason.NOT_WANTED, message="Nobody asks.", before=Phase.STOPPED, after=Phase.STOPPED
)


def test_status_has_conditions_and_models() -> None:
    async def test(here: House) -> None:
        status = (await here.http.get("/admin/status")).json()
        assert status["version"] == "1.2.3"
        assert status["conditions"] == [
            {
                "type": "LoopRuns", "ok": True, "status": "True", "reason": "Passed", "message": "just now",
                "lastTransitionTime": None,
            }
        ]  # fmt: skip
        assert [(one["model"], one["phase"], one["last_used"]) for one in status["models"]] == [
            (MODEL, "Stopped", None)
        ]

    live(test)


def test_plan_now_and_settled() -> None:
    async def test(here: House) -> None:
        here.control.plan = Plan(generation=7, snapshot_at=12.5, decisions=(DECISION,))
        for query, count in (("", 1), ("?settle=0", 1), ("?settle=1", 2)):
            plans = (await here.http.get(f"/admin/plan{query}")).json()["plans"]
            assert [(plan["generation"], plan["decisions"][0]["reason"]) for plan in plans] == [
                (7, "NotWanted")
            ] * count
        wrong = await here.http.get("/admin/plan?settle=often")
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "invalid_request")
        assert "settle" in wrong.json()["error"]["message"]

    live(test)


def test_the_files_are_looked_at_again_on_request() -> None:
    async def test(here: House) -> None:
        answer = await here.http.post("/admin/reload")
        assert (answer.status_code, answer.json()["models"]) == (200, [MODEL])
        assert answer.json()["conditions"][0]["type"] == "LoopRuns"
        assert here.control.asked == [("rescan",)]
        assert (await here.http.get("/admin/reload")).status_code == 405

    live(test)


def test_what_the_server_is() -> None:
    async def test(here: House) -> None:
        info = (await here.http.get("/admin/info")).json()
        assert (info["version"], info["pid"], info["models"]) == ("1.2.3", os.getpid(), 1)
        assert info["started_at"] == "2025-06-15T15:06:40Z"
        assert info["uptime_s"] >= 0
        assert info["rss_bytes"] > 1 << 20
        assert info["engine_ports"] == [33300, 34299]
        assert info["idle"] == {"sleep_after_s": 1800.0, "level": None, "stop_after_s": None}
        for path in info["endpoints"].values():
            assert (await here.http.get(path)).status_code != 404 or path == "/v1"

    live(test)


@pytest.mark.parametrize("name", [MODEL, MODEL.replace("/", "%2F"), "tiny", "small%20one"])
def test_a_model_is_started_and_stopped_by_any_of_its_names(name: str) -> None:
    async def test(here: House) -> None:
        for verb in ("start", "stop"):
            answer = await here.http.post(f"/admin/models/{name}/{verb}")
            assert (answer.status_code, answer.json()["model"]) == (202, MODEL)
        assert here.control.asked == [("start", MODEL), ("stop", MODEL)]

    live(test)


@pytest.mark.parametrize(
    ("body", "level"),
    [(None, None), ({}, None), ({"level": None}, None), ({"level": 1}, 1), ({"level": 2}, 2), ({"level": 3}, 3)],
)
def test_a_model_is_put_to_sleep_at_a_level(body: object, level: int | None) -> None:
    async def test(here: House) -> None:
        answer = await here.http.post(f"/admin/models/{MODEL}/sleep", json=body)
        assert (answer.status_code, answer.json()["model"]) == (202, MODEL)
        assert here.control.asked == [("sleep", MODEL, None if level is None else SleepLevel(level))]

    live(test)


def test_sleep_without_a_body() -> None:
    async def test(here: House) -> None:
        assert (await here.http.post(f"/admin/models/{MODEL}/sleep")).status_code == 202

    live(test)


@pytest.mark.parametrize("body", [b'{"level":4}', b'{"level":"1"}', b'{"lvl":1}', b"[]", b"{"])
def test_a_wrong_sleep_is_refused_and_nothing_is_asked(body: bytes) -> None:
    async def test(here: House) -> None:
        url, json_type = f"/admin/models/{MODEL}/sleep", {"content-type": "application/json"}
        answer = await here.http.post(url, content=body, headers=json_type)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
        assert here.control.asked == []

    live(test)


def test_an_unknown_model_or_verb_is_refused() -> None:
    async def test(here: House) -> None:
        for verb in ("start", "stop", "sleep"):
            answer = await here.http.post(f"/admin/models/nope/{verb}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
        for method, verb in (("POST", "delete"), ("GET", "start"), ("GET", "sleep")):
            answer = await here.http.request(method, f"/admin/models/{MODEL}/{verb}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
        assert here.control.asked == []

    live(test)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-forwarded-for", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1"),
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("host", "evil.example"),
    ],
)
@pytest.mark.parametrize("path", ["/admin/status", "/%61dmin/status", "/admin/nothing"])
def test_strangers_are_refused_with_a_sentence(path: str, header: str, value: str) -> None:
    async def test(here: House) -> None:
        answer = await here.http.get(path, headers={header: value})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
        assert answer.json()["error"]["message"].startswith("The admin API ")

    live(test)


def test_strangers_change_nothing() -> None:
    async def test(here: House) -> None:
        answer = await here.http.post(f"/admin/models/{MODEL}/stop", headers={"origin": "http://evil.example"})
        assert answer.status_code == 403
        assert here.control.asked == []

    live(test)


def test_our_own_origin_is_welcome() -> None:
    async def test(here: House) -> None:
        headers = {"origin": f"http://127.0.0.1:{here.port}"}
        assert (await here.http.post(f"/admin/models/{MODEL}/start", headers=headers)).status_code == 202

    live(test)


def test_a_condition_that_is_not_met_is_shown() -> None:
    async def test(here: House) -> None:
        here.control.wrong = [Condition(type="ManifestValid", ok=False, reason="Invalid", message="line 3: ...")]
        conditions = (await here.http.get("/admin/status")).json()["conditions"]
        assert [one["ok"] for one in conditions] == [True, False]

    live(test)
