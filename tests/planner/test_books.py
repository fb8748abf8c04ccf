"""Every byte is somebody's, and the sums add up."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planner.cluster import Cluster
from tests.strategies import any_state, sane_state
from vllama.domain.observed import Asleep, Loading, NodeState, Verb
from vllama.domain.spec import SleepLevel
from vllama.domain.status import Phase
from vllama.domain.units import GIB
from vllama.planner.books import books_of
from vllama.planner.ledger import Ledger
from vllama.planner.view import View


def only_page(cluster: Cluster):
    return books_of(*cluster.states()).nodes[0].devices[0]


@settings(max_examples=60)
@given(st.one_of(any_state(), sane_state()))
def test_all_of_a_device_and_of_the_hosts_budget_is_accounted_for(situation):
    ledger = Ledger(View(desired=situation.desired, snapshot=situation.snapshot, now=situation.now))
    books = books_of(situation.desired, situation.snapshot)
    assert [node.name for node in books.nodes] == sorted(node.name for node in situation.snapshot.nodes)
    for node in books.nodes:
        ready = node.state is NodeState.READY
        host = node.host
        assert host.budget_bytes == sum(copy.copy_bytes for copy in host.copies) + host.left_bytes
        assert host.room_bytes == ledger.host_room[node.name] <= host.left_bytes
        for page in node.devices:
            assert page.room_bytes == ledger.room[node.name, page.index]
            if page.used_bytes is None:
                assert (page.foreign_bytes, page.room_bytes) == (None, None)
                continue
            if not ready:
                assert page.room_bytes is None
                continue
            counted = sum(entry.counted_bytes for entry in page.engines)
            assert page.total_bytes == page.reserve_bytes + page.foreign_bytes + counted + page.room_bytes
            assert page.foreign_bytes >= 0


@settings(max_examples=40)
@given(any_state())
def test_every_engine_is_on_the_page_of_each_of_its_devices_or_astray(situation):
    books = books_of(situation.desired, situation.snapshot)
    told = [(node.name, page.index, entry.engine_id) for node in books.nodes for page in node.devices
            for entry in page.engines]  # fmt: skip
    known = {engine.engine_id for engine in situation.snapshot.engines}
    seen = {(node.name, device.index) for node in situation.snapshot.nodes for device in node.devices}
    here = [(*key, e.engine_id) for e in situation.snapshot.engines for key in e.keys if key in seen]
    assert sorted(line for line in told if line[2] in known) == sorted(here)
    lost = {e.engine_id for e in situation.snapshot.engines if any(key not in seen for key in e.keys)}
    assert {entry.engine_id for entry in books.astray} == lost


def test_a_device_with_everything_on_it():
    cluster = Cluster((24.0,), residue=0.5, reserve=0.5, foreign={0: 3.0}).model("a", 8.0).model("b", 6.0)
    page = only_page(cluster.engine("a").asleep("b"))
    assert (page.reserve_bytes, page.foreign_bytes, page.room_bytes) == (GIB // 2, 3 * GIB, 12 * GIB)
    assert [(e.model, e.phase, e.sleep_level, e.counted_bytes, e.awake_bytes) for e in page.engines] == [
        ("a", Phase.READY, None, 8 * GIB, 8 * GIB),
        ("b", Phase.ASLEEP, 1, GIB // 2, 6 * GIB),
    ]


def test_an_engine_that_loads_counts_for_all_it_will_take():
    page = only_page(Cluster().model("a", 5.0).engine("a", state=Loading(progress_at=0), measured_bytes=GIB))
    [entry] = page.engines
    assert (entry.counted_bytes, entry.measured_bytes, page.room_bytes) == (5 * GIB, GIB, 3 * GIB)


def test_what_is_under_way_counts_for_where_it_leads():
    stopping = only_page(Cluster().model("a", 5.0).engine("a").operation(Verb.STOP, "a"))
    assert [(e.phase, e.counted_bytes) for e in stopping.engines] == [(Phase.STOPPING, 0)]
    assert stopping.room_bytes == 8 * GIB
    starting = only_page(Cluster().model("a", 5.0).operation(Verb.START, "a", 0))
    assert [(e.model, e.phase, e.counted_bytes) for e in starting.engines] == [("a", Phase.STARTING, 5 * GIB)]


def test_a_copy_in_host_memory_is_charged_until_the_engine_ends_also_while_it_is_awake():
    cluster = Cluster(host=16.0).model("a", 5.0, weights=4.0).model("b", 1.0, weights=2.0)
    cluster.engine("a", host_copy_bytes=6 * GIB, host_measured_bytes=5 * GIB).asleep("b")
    host = books_of(*cluster.states()).nodes[0].host
    assert [(copy.model, copy.phase, copy.copy_bytes, copy.measured_bytes) for copy in host.copies] == [
        ("a", Phase.READY, 6 * GIB, 5 * GIB),
        ("b", Phase.ASLEEP, 3 * GIB, None),
    ]
    assert host.left_bytes == 7 * GIB


def test_a_sleep_under_way_has_its_copy_charged_already():
    cluster = Cluster(host=16.0).model("a", 5.0, weights=4.0).engine("a").operation(Verb.SLEEP, "a")
    host = books_of(*cluster.states()).nodes[0].host
    assert [copy.copy_bytes for copy in host.copies] == [6 * GIB]


def test_a_device_that_nobody_can_read_has_no_room_that_is_known():
    page = only_page(Cluster(unknown={0}).model("a").asleep("a"))
    assert (page.used_bytes, page.foreign_bytes, page.room_bytes) == (None, None, None)
    assert [entry.model for entry in page.engines] == ["a"]


def test_an_engine_on_a_device_that_is_gone_is_astray():
    cluster = Cluster((8.0,)).model("a", 5.0)
    cluster.engines.append(Cluster((8.0,)).model("a", 5.0).engine("a").engines[0])
    desired, snapshot = cluster.states()
    moved = replace(snapshot.engines[0], devices=(0, 7), state=Asleep(level=SleepLevel.DISCARDED))
    books = books_of(desired, replace(snapshot, engines=(moved,)))
    assert [entry.model for entry in books.astray] == ["a"]
    assert [entry.model for entry in books.nodes[0].devices[0].engines] == ["a"]
