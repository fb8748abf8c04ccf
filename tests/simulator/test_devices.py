import os
import signal
import subprocess
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulator.hogs import hog
from tests.waiting import wait_until
from vllama.domain.units import GIB
from vllama.simulator.devices import Claim, OutOfMemory, SimulatedDevices, parse_devices, process_start_time

ME = os.getpid()


@pytest.mark.parametrize(
    ("text", "totals"),
    [
        ("2x24GiB", (24 * GIB, 24 * GIB)),
        ("24GiB,80GiB", (24 * GIB, 80 * GIB)),
        (" 1GiB , 2 x 2GiB", (GIB, 2 * GIB, 2 * GIB)),
    ],
)
def test_parse_devices(text: str, totals: tuple[int, ...]) -> None:
    assert parse_devices(text) == totals


@pytest.mark.parametrize("text", ["", "x24GiB", "ax1GiB", "0GiB", "0x1GiB", "2x"])
def test_nonsense_is_no_device(text: str) -> None:
    with pytest.raises(ValueError, match=r"GiB|memory"):
        parse_devices(text)


@given(st.lists(st.integers(1, 4096), min_size=1, max_size=8))
def test_parse_devices_reads_what_is_written(mebibytes: list[int]) -> None:
    assert parse_devices(",".join(f"{size}MiB" for size in mebibytes)) == tuple(size << 20 for size in mebibytes)


def test_claims_add_up(devices: SimulatedDevices) -> None:
    with hog(devices, "3GiB") as other:
        wait_until(lambda: devices.read()[0].claims, what="the hog holds memory")
        devices.claim(0, ME, GIB)
        first, second = devices.read()
    assert (first.index, first.total_bytes, first.free_bytes) == (0, 4 * GIB, 0)
    assert set(first.claims) == {
        Claim(pid=other.pid, memory_bytes=3 * GIB, foreign=True),
        Claim(pid=ME, memory_bytes=GIB),
    }
    assert (second.index, second.free_bytes, second.claims) == (1, 4 * GIB, ())


def test_a_claim_that_does_not_fit_changes_nothing(devices: SimulatedDevices) -> None:
    with hog(devices, "3GiB"):
        wait_until(lambda: devices.read()[0].claims, what="the hog holds memory")
        devices.claim(0, ME, GIB // 2)
        with pytest.raises(OutOfMemory, match=r"device 0: 2.0 GiB wanted, 1.0 GiB free"):
            devices.claim(0, ME, 2 * GIB)
        assert Claim(pid=ME, memory_bytes=GIB // 2) in devices.read()[0].claims


def test_a_claim_replaces_the_one_before(devices: SimulatedDevices) -> None:
    devices.claim(1, ME, 4 * GIB)
    devices.claim(1, ME, GIB)
    assert devices.read()[1].claims == (Claim(pid=ME, memory_bytes=GIB),)
    devices.release(1, ME)
    devices.release(1, ME)
    assert devices.read()[1].claims == ()


def test_memory_of_the_dead_is_free(devices: SimulatedDevices) -> None:
    with hog(devices, "4GiB") as other:
        wait_until(lambda: devices.read()[0].claims, what="the hog holds memory")
        other.send_signal(signal.SIGKILL)
        # Nobody waits for it here: it stays a zombie, and holds nothing all the same.
        wait_until(lambda: devices.read()[0].free_bytes == 4 * GIB, what="the killed hog's memory is free")
        devices.claim(0, ME, 4 * GIB)
    assert [path.name for path in (devices.directory / "0").iterdir()] == [str(ME)]


def test_a_reused_process_number_inherits_nothing(devices: SimulatedDevices) -> None:
    started = process_start_time(ME)
    assert started is not None
    (devices.directory / "0" / str(ME)).write_text(f"{started - 1} {4 * GIB}\n")
    assert devices.read()[0].claims == ()


def test_a_half_written_claim_is_not_read(devices: SimulatedDevices) -> None:
    (devices.directory / "0" / f".{ME}.{ME}").write_text("12")
    assert devices.read()[0].claims == ()


def test_who_does_not_run_cannot_claim(devices: SimulatedDevices) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    with pytest.raises(ProcessLookupError, match="does not run"):
        devices.claim(0, gone.pid, 1)


def test_there_is_no_third_device(devices: SimulatedDevices) -> None:
    with pytest.raises(ValueError, match="there is no device 2"):
        devices.claim(2, ME, 1)


ROUNDS, RIVALS = 20, 8


def _claim_again_and_again(directory: Path, results, together) -> None:
    devices = SimulatedDevices(directory)
    for _ in range(ROUNDS):
        together.wait(20)
        try:
            devices.claim(0, os.getpid(), GIB)
            results.put(True)
        except OutOfMemory:
            results.put(False)
        together.wait(20)
        devices.release(0, os.getpid())


def test_no_race_claims_more_than_there_is(devices: SimulatedDevices) -> None:
    context = get_context("fork")
    results, together = context.Queue(), context.Barrier(RIVALS + 1)
    arguments = (devices.directory, results, together)
    rivals = [context.Process(target=_claim_again_and_again, args=arguments, daemon=True) for _ in range(RIVALS)]
    for rival in rivals:
        rival.start()
    for _ in range(ROUNDS):
        together.wait(20)
        won = [results.get(timeout=20) for _ in rivals]
        assert (won.count(True), devices.read()[0].free_bytes) == (4, 0)
        together.wait(20)
    for rival in rivals:
        rival.join()


def test_a_hog_that_does_not_fit_says_so(devices: SimulatedDevices) -> None:
    with hog(devices, "5GiB") as other:
        assert other.wait(10) == 1
