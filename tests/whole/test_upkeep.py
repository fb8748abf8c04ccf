"""A server that stays up, and says so when it does not."""

import contextlib
import socket

import pytest

from tests.waiting import wait_until


@pytest.fixture
def systemd(tmp_path):
    """The socket on which systemd listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hears:
        hears.bind(str(tmp_path / "notify"))
        hears.settimeout(20)
        yield hears


def heard_of(systemd, field):
    """What is said of `field` next."""
    while True:
        for line in systemd.recv(4096).decode().split("\n"):
            name, _, value = line.partition("=")
            if name == field:
                return value


def test_systemd_is_told_of_a_service_from_its_start_to_its_end(start_server, tmp_path, systemd):
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
    server = start_server("models: {org/A: {memory: 1GiB}}", "--simulate", "8GiB", **env)
    assert heard_of(systemd, "READY") == "1"
    assert server.http.get(f"{server.url}/readyz").status_code == 200
    assert server.http.get(f"{server.url}/livez").json() == {"status": "ok"}
    assert heard_of(systemd, "WATCHDOG") == "1"
    assert server.chat("org/A").status_code == 200
    wait_until(lambda: "1 ready" in heard_of(systemd, "STATUS"), what="the status to tell of the model")
    metrics = server.http.get(f"{server.url}/metrics").text
    assert 'vllama_condition{type="TasksRun"} 1.0' in metrics
    assert "vllama_loop_blocked_total 0.0" in metrics
    assert float(metrics.split("\nvllama_last_pass_age_seconds ")[1].split()[0]) < 60
    assert server.terminate() == 0
    assert heard_of(systemd, "STOPPING") == "1"
    with contextlib.suppress(TimeoutError):
        systemd.settimeout(0.01)
        heard_of(systemd, "READY")
        pytest.fail("it said that it was ready, after it had said that it stops")
