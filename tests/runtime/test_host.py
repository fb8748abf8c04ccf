"""The host's memory: what engines take of it, and the host as the device of engines on the CPU."""

import os
import subprocess
import sys

import pytest

from vllama.domain.units import KIB, MIB
from vllama.runtime.local import host
from vllama.runtime.local.host import HostMemory, own_bytes

HOLD = """
import mmap, sys
own = bytearray(b"x") * (40 << 20)                       # anonymous, its own
shared = mmap.mmap(-1, 30 << 20)                         # shared and anonymous, as pinned host memory is
shared.write(b"y" * (30 << 20))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holding():
    """The leader of a session that holds 40 MiB of its own and 30 MiB that could be shared."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )  # fmt: skip
    assert process.stdout.readline() == b"held\n"
    yield process.pid
    process.kill()
    process.communicate()


def test_an_engine_takes_of_the_host_what_its_processes_do(holding):
    held = host.engine_bytes({holding: "e1", os.getpid(): "e2"})  # we lead no session: e2 has no process
    assert 70 * MIB < held["e1"] < 110 * MIB
    assert held["e2"] == 0


@pytest.mark.parametrize(
    ("status", "kib"),
    [
        ("VmRSS:\t 900 kB\nRssAnon:\t 300 kB\nRssFile:\t 500 kB\nRssShmem:\t 100 kB\nVmLck:\t 0 kB\n", 400),
        ("RssAnon:\t 300 kB\nRssShmem:\t 100 kB\nVmLck:\t 250 kB\n", 400),  # locked pages are resident ones
        ("RssAnon:\t 300 kB\nRssShmem:\t 0 kB\nVmPin:\t 9000 kB\n", 9000),  # or pinned where no mapping counts them
        ("Name:\tVmware\nState:\tZ (zombie)\n", 0),
        ("", 0),
    ],
)  # fmt: skip
def test_of_a_process_files_that_are_mapped_do_not_count(status, kib):
    assert own_bytes(status) == kib * KIB


def test_on_the_cpu_nothing_is_counted_twice(holding):
    """What an engine takes is told as memory of the device, and copies of sleepers have no budget beside it."""
    source = HostMemory(node="local")
    reading = source.read({holding: "e1"})
    (node,) = reading.nodes
    (device,) = node.devices
    assert 40 * MIB < reading.measured_bytes["e1"] < 110 * MIB
    assert reading.host_bytes == {}
    assert (node.host_budget_bytes, node.sleep_frees_memory) == (0, False)
    assert node.host_available_bytes == device.total_bytes - device.used_bytes
    assert set(source.used()) == {0} == set(source.indices())
