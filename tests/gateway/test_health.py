import pytest

from tests.gateway.house import House, live
from vllama.controller.condition import Condition
from vllama.controller.vitals import Vitals
from vllama.gateway.guard import Guard
from vllama.gateway.keys.key import Key, Scope, digest_of
from vllama.gateway.keys.ring import Keyring

BLIND = Condition(type="DevicesSeen", ok=False, reason="Unreadable", message="NVML: driver not loaded")
TYPO = Condition(type="ManifestValid", ok=False, reason="Invalid", message="line 3: no such key")


@pytest.mark.parametrize("path", ["/health", "/readyz"])
@pytest.mark.parametrize(
    ("wrong", "status", "word"),
    [([], 200, "ok"), ([BLIND], 503, "unavailable"), ([TYPO], 200, "degraded"), ([TYPO, BLIND], 503, "unavailable")],
)
def test_health_is_what_the_conditions_say(path: str, wrong: list[Condition], status: int, word: str) -> None:
    async def test(here: House) -> None:
        here.control.wrong = wrong
        answer = await here.http.get(path)
        assert (answer.status_code, answer.json()["status"], answer.json()["models"]) == (status, word, 1)
        shown = {one["type"]: one["message"] for one in answer.json()["conditions"]}
        assert all(shown[condition.type] == condition.message for condition in wrong)
        assert (await here.http.head(path)).status_code == status

    live(test)


@pytest.mark.parametrize("path", ["/health", "/readyz"])
def test_strangers_are_told_how_it_is_and_not_why(path: str) -> None:
    async def test(here: House) -> None:
        here.control.wrong = [TYPO]
        for headers in ({"x-forwarded-for": "10.0.0.1"}, {"host": "vllama.example"}, {"origin": "http://evil.example"}):
            answer = await here.http.get(path, headers=headers)
            assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
            assert answer.json()["conditions"] == [
                {"type": "LoopRuns", "ok": True},
                {"type": "ManifestValid", "ok": False},
            ]
        told = await here.http.get(path, headers={"host": "vllama.example", "authorization": "Bearer opskey"})
        assert TYPO.message in told.text

    ring = {digest_of(b"opskey"): Key(name="ops", scope=Scope.ADMIN)}
    live(test, guard=Guard(keyring=Keyring(ring=ring)))


def test_alive_whatever_the_conditions_say() -> None:
    async def test(here: House) -> None:
        here.control.wrong = [BLIND]
        assert (await here.http.get("/livez")).json() == {"status": "ok"}

    live(test)


def test_who_is_stuck_is_not_alive_and_says_nothing_more_to_strangers() -> None:
    async def test(here: House) -> None:
        here.control.alive = Vitals(stuck="the loop made no pass for 61 s")
        answer = await here.http.get("/livez", headers={"x-forwarded-for": "10.0.0.1"})
        assert (answer.status_code, answer.json()) == (503, {"status": "stuck"})
        assert (await here.http.head("/livez")).status_code == 503

    live(test)


def test_who_is_about_to_go_serves_what_it_has_and_wants_no_more() -> None:
    async def test(here: House) -> None:
        here.control.alive = Vitals(unready="vllama is shutting down.")
        assert (await here.http.get("/livez")).status_code == 200
        assert (await here.http.get("/health")).status_code == 200
        answer = await here.http.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
        assert answer.json()["conditions"][-1]["message"] == "vllama is shutting down."
        answer = await here.http.get("/readyz", headers={"x-forwarded-for": "10.0.0.1"})
        assert answer.json()["conditions"][-1] == {"type": "TakesRequests", "ok": False}

    live(test)


def test_the_root_says_who_this_is() -> None:
    async def test(here: House) -> None:
        assert (await here.http.get("/")).json() == {"name": "vllama", "version": "1.2.3", "models": 1}
        assert (await here.http.head("/")).status_code == 200

    live(test)
