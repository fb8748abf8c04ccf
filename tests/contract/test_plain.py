"""An engine without the dev routes and with a process below its core, up to its end. The last test kills it."""

import os
import signal

import httpx
import pytest

from tests.contract.test_client import ask
from tests.contract.test_routes import ALWAYS, GENERATE, check_routes
from tests.simulator.engines import alive, streaming
from tests.waiting import wait_until
from vllama.domain.spec import SleepLevel
from vllama.engine.client import EngineRefused, Refused


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_routes(plain):
    check_routes(plain.http, ALWAYS | GENERATE)


def test_every_step_is_refused(plain):
    for call in (
        lambda client, url: client.is_sleeping(url, timeout_s=30),
        lambda client, url: client.sleep(url, SleepLevel.WEIGHTS_OFFLOADED, "abort", timeout_s=30),
        lambda client, url: client.wake(url, SleepLevel.DISCARDED, timeout_s=30),
    ):
        with pytest.raises(EngineRefused, match="404: Not Found"):
            ask(plain, call)


def test_a_killed_api_server_leaves_its_core_and_workers(plain):
    """The core goes on for ever, until it is killed itself; its workers follow, and their shared memory is removed."""
    with streaming(plain, max_tokens=3900) as events:
        core = plain.core_pid()
        plain.process.kill()
        with pytest.raises(httpx.RemoteProtocolError):
            list(events)
    assert plain.wait_exit() == -signal.SIGKILL
    assert ask(plain, lambda client, url: client.health(url, timeout_s=30)) == Refused()
    assert alive(core)
    core_group = os.getpgid(core)
    assert core_group == plain.process.pid
    os.kill(core, signal.SIGKILL)
    wait_until(lambda: not group_exists(core_group), deadline_s=plain.patience_s, what="nobody is left")
