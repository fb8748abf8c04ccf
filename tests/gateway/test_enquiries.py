"""The shapes of what is only told."""

import json

import pytest
from hypothesis import given, settings

from tests.gateway.house import MODEL, House, live
from tests.planner.cluster import NOW, Cluster
from tests.strategies import any_state
from vllama.domain.units import GIB
from vllama.gateway.enquiry_json import matrix_json, memory_json, rehearsal_json
from vllama.planner.books import Books, DevicePage, Entry, HostPage, books_of
from vllama.planner.rehearse import Asked, Rehearsal, Step, rehearse
from vllama.planner.together import Matrix, matrix_of


def test_memory_has_the_books_and_the_figures() -> None:
    async def test(here: House) -> None:
        here.control.cluster.engine(MODEL)
        answer = (await here.http.get("/admin/memory")).json()
        assert set(answer) == {*Books.__dataclass_fields__, "models"}
        [node] = answer["nodes"]
        [page] = node["devices"]
        assert set(page) == set(DevicePage.__dataclass_fields__)
        assert set(node["host"]) == set(HostPage.__dataclass_fields__)
        [entry] = page["engines"]
        assert set(entry) == set(Entry.__dataclass_fields__)
        assert (entry["model"], entry["phase"], entry["counted_bytes"]) == (MODEL, "Ready", 5 * GIB)
        assert page["room_bytes"] == 3 * GIB
        [figures] = answer["models"]
        assert (figures["model"], figures["awake_bytes"], figures["load_s"]) == (MODEL, 7, None)
        assert figures["sources"] == {"awake_bytes": "log"}

    live(test)


def test_a_request_by_any_name_and_in_order() -> None:
    async def test(here: House) -> None:
        answer = await here.http.get("/admin/plan/request", params={"model": ["tiny", "small one"]})
        assert answer.status_code == 200
        assert here.control.asked == [("rehearse", MODEL, MODEL)]
        told = answer.json()
        assert set(told) == set(Rehearsal.__dataclass_fields__)
        [asked], [step] = told["asked"], told["steps"]
        assert set(asked) == set(Asked.__dataclass_fields__)
        assert set(step) == set(Step.__dataclass_fields__)
        assert (asked["outcome"], asked["before"], asked["waits"]["assumed"]) == ("ready", "Stopped", True)
        assert (step["kind"], step["reason"], step["devices"], step["begins"]["seconds"]) == (
            "start",
            "Demanded",
            [0],
            0,
        )

    live(test)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "invalid_request"),
        ("?model=nope", 404, "model_not_found"),
        ("?model=tiny&model=x", 404, "model_not_found"),
    ],
)
def test_a_request_for_nothing_or_nobody_is_refused(query: str, status: int, code: str) -> None:
    async def test(here: House) -> None:
        answer = await here.http.get(f"/admin/plan/request{query}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert here.control.asked == []

    live(test)


@pytest.mark.parametrize(("verb", "kinds"), [("stop", ["stop"]), ("sleep", ["sleep"]), ("start", [])])
def test_what_an_operators_wish_would_lead_to(verb: str, kinds: list[str]) -> None:
    async def test(here: House) -> None:
        here.control.cluster.engine(MODEL)
        answer = await here.http.get("/admin/plan/wish", params={"model": "tiny", "verb": verb})
        assert here.control.asked == [("rehearse", verb, MODEL, None)]
        told = answer.json()
        assert set(told) == set(Rehearsal.__dataclass_fields__)
        assert [step["kind"] for step in told["steps"]] == kinds
        assert told["asked"][0]["outcome"] == ("ready" if verb == "start" else "put_down")
        await here.http.get("/admin/plan/wish", params={"model": "tiny", "verb": "sleep", "level": 2})
        assert here.control.asked[-1] == ("rehearse", "sleep", MODEL, 2)

    live(test)


@pytest.mark.parametrize(
    ("query", "status"), [("model=nope&verb=stop", 404), ("model=tiny", 400), ("model=tiny&verb=kill", 400),
                          ("model=tiny&verb=sleep&level=4", 400)],
)  # fmt: skip
def test_a_wish_that_is_none_is_refused(query: str, status: int) -> None:
    async def test(here: House) -> None:
        assert (await here.http.get(f"/admin/plan/wish?{query}")).status_code == status
        assert here.control.asked == []

    live(test)


def test_the_matrix() -> None:
    async def test(here: House) -> None:
        answer = (await here.http.get("/admin/plan/matrix")).json()
        assert set(answer) == set(Matrix.__dataclass_fields__)
        assert answer["pairs"] == [{"a": MODEL, "b": "org/b", "together": "no"}]
        assert answer["sets"] == [[MODEL], ["org/b"]]

    live(test)


@pytest.mark.parametrize("name", [MODEL, MODEL.replace("/", "%2F"), "tiny", "small%20one"])
def test_a_model_is_shown_by_any_of_its_names(name: str) -> None:
    async def test(here: House) -> None:
        card = (await here.http.get(f"/admin/models/{name}")).json()
        assert (card["model"], card["status"]["model"], card["tasks"]) == (MODEL, MODEL, ["generate"])
        assert card["command"] == {"argv": [], "env": {"A": "b"}, "problem": None}
        times = card["engine"]["started_at"], card["failures"]["last_at"], card["lately"][0]["at"]
        assert times == ("2025-06-15T15:06:40Z",) * 3
        assert {"name": "aliases", "value": ["tiny", "small one"], "default": False} in card["settings"]
        assert {"name": "pin", "value": False, "default": True} in card["settings"]

    live(test)


def test_an_unknown_model_is_a_404() -> None:
    async def test(here: House) -> None:
        answer = await here.http.get("/admin/models/org/nope")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")

    live(test)


def test_strangers_are_told_nothing() -> None:
    async def test(here: House) -> None:
        for path in ("memory", "plan/request?model=tiny", "plan/matrix", f"models/{MODEL}"):
            answer = await here.http.get(f"/admin/{path}", headers={"origin": "http://evil.example"})
            assert answer.status_code == 403

    live(test)


@settings(max_examples=15)
@given(any_state())
def test_everything_survives_json_as_it_is(situation) -> None:
    desired, snapshot = situation.desired, situation.snapshot
    models = sorted(desired.models)[:2]
    for answer in (
        memory_json(books_of(desired, snapshot), ()),
        rehearsal_json(rehearse(desired, snapshot, situation.now, models)),
        matrix_json(matrix_of(desired, snapshot, situation.now)),
    ):
        assert json.loads(json.dumps(answer)) == answer


def test_a_pinned_model_and_what_can_never_be_are_named() -> None:
    cluster = Cluster().model("p", 1.0, pin=True).model("x", 99.0)
    answer = matrix_json(matrix_of(*cluster.states(), NOW))
    assert answer["pinned"] == ["p"]
    assert set(answer["never"]) == {"x"}


def test_why_a_model_is_where_it_is() -> None:
    async def test(here: House) -> None:
        here.control.cluster = Cluster().model(MODEL, 5.0).model("org/b", 4.0).busy("org/b").waits(MODEL)
        told = (await here.http.get("/admin/models/tiny/why")).json()
        assert (told["model"], told["aliases"]) == (MODEL, ["tiny", "small one"])
        [engine] = told["engines"]
        assert engine["decision"]["reason"] == "NoIdleVictim"
        assert engine["decision"]["sentence"].startswith("It is wanted;")
        assert engine["numbers"]["candidates"][0]["model"] == "org/b"
        assert {each["change"] for each in engine["otherwise"]} >= {"RequestsEnd", "TimePasses"}
        assert engine["decisions"] == []
        unknown = await here.http.get("/admin/models/org/none/why")
        assert unknown.status_code == 404
        assert MODEL in unknown.json()["error"]["message"]

    live(test)


def test_a_model_as_kubernetes_would_describe_it() -> None:
    async def test(here: House) -> None:
        here.control.events.record("Crashed", "m", model=MODEL, warning=True)
        here.control.events.record("Crashed", "n", model=MODEL, warning=True)
        told = (await here.http.get("/admin/models/tiny/describe")).json()
        assert (told["kind"], told["metadata"]["name"], told["metadata"]["aliases"]) == (
            "Model", MODEL, ["tiny", "small one"],
        )  # fmt: skip
        assert told["spec"]["idle.sleep_after"] == 1800.0
        [engine] = told["status"]["engines"]
        assert [each["type"] for each in engine["conditions"]] == ["Ready", "Resident", "Sound"]
        assert engine["conditions"][0]["status"] == "False"
        [event] = told["events"]
        assert (event["type"], event["count"], event["message"]) == ("Warning", 2, "n")
        assert event["involvedObject"] == {"kind": "Model", "name": MODEL}
        assert event["firstTimestamp"] <= event["lastTimestamp"]
        assert (await here.http.get("/admin/models/org/none/describe")).status_code == 404

    live(test)
