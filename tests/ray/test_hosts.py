"""The hosts that the other tests stand on: Ray itself does on them what it does on machines."""

import pytest

from tests.ray.cluster import inner, kill
from tests.waiting import wait_until

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
