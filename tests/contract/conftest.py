"""One suite for the simulated engine and for real vLLM; see README.md."""

from collections.abc import Iterator

import pytest

from tests.contract.engines import SETUPS, Fleet, Kind
from tests.real.conftest import real_vllm  # noqa: F401 - a fixture
from tests.simulator.engines import Engine

REAL_TIMEOUT_S = 600


@pytest.fixture(
    scope="session",
    params=[Kind.SIMULATED, pytest.param(Kind.REAL, marks=[pytest.mark.real, pytest.mark.timeout(REAL_TIMEOUT_S)])],
    ids=str,
)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture(scope="session")
def fleet(kind: Kind, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    vllm = request.getfixturevalue("real_vllm") if kind is Kind.REAL else None
    order = list(dict.fromkeys(name for item in request.session.items for name in _engines_of(item)))
    fleet = Fleet(vllm, tmp_path_factory.mktemp(f"{kind}-engines"), order)
    yield fleet
    fleet.end_all()


@pytest.fixture(scope="session")
def chat(fleet: Fleet) -> Engine:
    """A chat model, for all tests that leave it awake and idle."""
    return fleet.get("chat")


@pytest.fixture(scope="session")
def embedder(fleet: Fleet) -> Engine:
    return fleet.get("embedder")


@pytest.fixture(scope="session")
def reranker(fleet: Fleet) -> Engine:
    return fleet.get("reranker")


@pytest.fixture
def awake(chat: Engine) -> Iterator[Engine]:
    """The chat model, woken after the test whatever it did."""
    yield chat
    chat.http.post("/resume")
    chat.http.post("/wake_up")
    chat.http.post("/collective_rpc", json={"method": "reload_weights"})
    assert chat.http.get("/is_sleeping").json() == {"is_sleeping": False}
    assert chat.http.get("/is_paused").json() == {"is_paused": False}


def _engines_of(item: pytest.Item) -> Iterator[str]:
    """Those that a test takes as a fixture, or names in its parameter `engine`."""
    asked = (*getattr(item, "fixturenames", ()), *getattr(getattr(item, "callspec", None), "params", {}).values())
    return (name for name in asked if isinstance(name, str) and name in SETUPS)


def _doomed(fleet: Fleet, name: str) -> Iterator[Engine]:
    yield fleet.get(name)
    fleet.end(name)


@pytest.fixture
def stalling(fleet: Fleet) -> Iterator[Engine]:
    yield from _doomed(fleet, "stalling")


@pytest.fixture
def beheaded(fleet: Fleet) -> Iterator[Engine]:
    yield from _doomed(fleet, "beheaded")


@pytest.fixture(scope="module")
def plain(fleet: Fleet) -> Iterator[Engine]:
    """Without the dev routes, and with a process below its core."""
    yield from _doomed(fleet, "plain")


@pytest.fixture(scope="module")
def guarded(fleet: Fleet) -> Iterator[Engine]:
    """Behind a door; its own client has the key."""
    yield from _doomed(fleet, "guarded")
