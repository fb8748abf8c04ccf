"""What the controller tells of models that other servers have, beside its own."""

from tests.controller.servers.test_fleet import fleet_of
from vllama.controller.events import Events
from vllama.controller.manifest import ManifestWatch
from vllama.controller.servers.health import Check
from vllama.controller.servers.servers import Servers
from vllama.domain.reason import Reason
from vllama.domain.spec import ModelSpec
from vllama.domain.status import ModelStatus, Phase

HERE = {"org/here": ModelSpec(model="org/here", aliases=("small",))}
STATUS = ModelStatus(
    model="org/here", phase=Phase.READY, reason=Reason.SERVING, message="1 in flight.", declared=True, in_flight=1
)  # fmt: skip


def servers_of(fleet, tmp_path) -> Servers:
    watch = ManifestWatch(tmp_path / "models.yaml", lambda: None, environ={})
    return Servers(fleet=fleet, watch=watch, http=None, clock=lambda: 100.0, events=Events())


def test_without_servers_nothing_is_added(tmp_path):
    servers = servers_of(fleet_of(), tmp_path)
    assert servers.with_theirs([STATUS], HERE) == [STATUS]
    assert servers.condition() is None


def test_a_model_that_both_have_is_one_and_one_that_only_they_have_is_another(tmp_path):
    fleet = fleet_of(("a", 2), ("b", 2), models=("org/here", "org/there"))
    servers = servers_of(fleet, tmp_path)
    assert fleet.admit("org/here") is not None
    assert fleet.admit("org/there") is not None
    both, theirs = servers.with_theirs([STATUS], HERE)
    assert (both.model, both.in_flight, both.servers) == ("org/here", 2, ("http://a", "http://b"))
    assert (theirs.model, theirs.phase, theirs.in_flight) == ("org/there", Phase.READY, 1)
    assert servers.names(HERE).resolve("org/there").model == "org/there"
    assert servers.names(HERE).resolve("small").model == "org/here"


def test_a_server_that_does_not_answer_is_said_to_be_unwell(tmp_path):
    fleet = fleet_of(("a", 2), ("b", 2), models=("org/there",))
    servers = servers_of(fleet, tmp_path)
    assert servers.condition().ok
    for server in fleet.servers.values():
        for number in range(10):
            server.health.check(Check(took_s=0.01, wrong="it refuses connections"), float(number))
    condition = servers.condition()
    assert not condition.ok
    assert "http://a" in condition.message
    assert "http://b" in condition.message
    [theirs] = servers.with_theirs([], {})
    assert theirs.phase is Phase.LOST
