"""The hosts that the other tests stand on: Ray itself does on them what it does on machines."""

import signal
import subprocess
import sys
import textwrap

import pytest

from tests.ray.cluster import inner, kill
from tests.ray.hosts import ROOT, Lan
from tests.ray.manager import is_alive
from tests.waiting import wait_until
from tests.whole.server import environment

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


def test_three_machines_make_a_cluster(cluster):
    wait_until(lambda: cluster.alive() == {"head", "left", "right"}, deadline_s=60, what="three nodes")


def test_hosts_see_neither_each_others_files_nor_processes(cluster):
    left, right = cluster["left"], cluster["right"]
    (left.host.home / "only-here").touch()
    assert right.host.run("test", "-e", "/tmp/home/only-here").returncode != 0
    assert left.host.run("test", "-e", "/tmp/home/only-here").returncode == 0
    assert not set(left.host.processes()) & set(right.host.processes())


def test_what_is_started_on_a_host_can_be_ended(cluster):
    started = cluster["left"].host.start("sleep", "1000", env={}, out=cluster.directory / "sleep.out")
    pid = inner(started)
    assert pid in set(cluster["left"].host.processes())
    kill(pid)
    assert started.wait(10) != 0
    assert pid not in set(cluster["left"].host.processes())


def test_a_killed_run_leaves_nothing(means, tmp_path):
    """Neither processes, whatever they did to their sessions, nor what would be in the next one's way."""
    program = """
        import os, signal, sys
        from pathlib import Path
        from tests.ray.hosts import Host, Lan
        host = Host(Lan("vllama-killed", "10.213.88"), 1, "one", Path(sys.argv[1]))
        host.boot()
        host.run("sh", "-c", "setsid sleep 1000 > /dev/null 2>&1 < /dev/null &")
        print(host.pid, *host.processes(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
        env=environment(PYTHONPATH=str(ROOT)), timeout=60, check=False,
    )  # fmt: skip
    pids = [int(pid) for pid in killed.stdout.split()]
    assert (killed.returncode, len(pids)) == (-signal.SIGKILL, 2), killed.stderr
    wait_until(lambda: not any(is_alive(pid) for pid in pids), what="the end of all that ran there")
    again = Lan("vllama-killed", "10.213.88")
    again.close()
