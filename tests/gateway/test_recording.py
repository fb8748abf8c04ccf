"""What is kept of requests: when, which model, how long. Nothing else, and no more than so much."""

import asyncio

import msgspec
import pytest

from tests.waiting import async_wait_until
from vllama.gateway.metrics.finished import Finished
from vllama.gateway.recording import HEADER, Recording, before, recorded
from vllama.replay.trace import read_trace

DONE = Finished(
    request=None, client="192.0.2.7", model="org/a", outcome="ok", status=200, wait_s=1.5, duration_s=4.0
)  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "requests.csv"


def recording(path, **more):
    return Recording(path, clock=lambda: 1_700_000_000.0, **more)


def test_arrival_model_and_the_time_at_the_engine(path):
    record = recording(path)
    record.add(DONE)
    record.close()
    assert path.read_text() == f"{HEADER}1699999996.000,org/a,2.500\n"
    assert path.stat().st_mode & 0o777 == 0o600
    [request] = read_trace(path)
    assert (request.at_s, request.model, request.busy_s) == (1_699_999_996, "org/a", 2.5)


@pytest.mark.parametrize("other", [{"model": ""}, {"wait_s": 4.0}, {"elsewhere": True}])
def test_who_never_came_to_an_engine_here_is_left_out(path, other):
    record = recording(path)
    record.add(msgspec.structs.replace(DONE, **other))
    record.close()
    assert not path.exists()


def test_it_is_written_now_and_then(path):
    async def lines(count):
        return path.exists() and len(path.read_text().splitlines()) == count

    async def scenario():
        record = recording(path, every_s=0.01)
        running = asyncio.create_task(record.run())
        for count in (2, 3):
            record.add(DONE)
            await async_wait_until(lambda n=count: lines(n), what="written")
        running.cancel()

    asyncio.run(scenario())
    assert len(read_trace(path)) == 2


def test_the_file_stays_within_bounds(path):
    for number in range(20):
        record = recording(path, most_bytes=100)
        record.add(msgspec.structs.replace(DONE, model=f"org/{number}"))
        record.close()
    assert path.stat().st_size < 150
    assert before(path).stat().st_size < 150
    kept = [request.model for part in recorded(path) for request in read_trace(part)]
    assert kept == [f"org/{number}" for number in range(20 - len(kept), 20)]
    assert len(kept) >= 3
    assert sorted(each.name for each in path.parent.iterdir()) == ["requests.csv", "requests.csv.1"]


def test_after_a_piece_that_was_cut_off_it_goes_on(path):
    path.write_text(f"{HEADER}1699999996.000,org/a,2.500\n16999999")
    record = recording(path)
    record.add(DONE)
    record.close()
    assert len(read_trace(path, sound_only=True)) == 2


def test_a_disk_that_refuses_costs_only_the_record(path):
    path.mkdir()
    record = recording(path)
    record.add(DONE)
    record.close()
    assert list(path.iterdir()) == []


def test_while_nothing_can_be_written_not_all_is_kept(path, monkeypatch):
    monkeypatch.setattr("vllama.gateway.recording.MOST_WAITING", 3)
    record = recording(path)
    for _ in range(5):
        record.add(DONE)
    record.close()
    assert len(read_trace(path)) == 3
