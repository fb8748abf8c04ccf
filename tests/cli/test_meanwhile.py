"""What is said on stderr while the first word is waited for. A real HTTP server plays what the model goes through."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.answers import a_running
from tests.cli.scripted import ScriptedServer
from tests.waiting import wait_until
from vllama.cli.client import AdminClient
from vllama.cli.meanwhile import told_meanwhile

WEIGHTS = a_running("org/a", "Starting", aliases=["a"], stage="loading weights", ready_in_s=30.0)
GRAPHS = a_running("org/a", "Starting", aliases=["a"], stage="capturing graphs", ready_in_s=None)
READY = a_running("org/a", "Ready", aliases=["a"])


def after_looks(server: ScriptedServer, looks: int) -> Iterator[dict[str, Any]]:
    """The answer comes when the state was looked at so often."""
    wait_until(lambda: sum(path == "/admin/status" for _, path, _ in server.requests) >= looks, what="looks")
    yield {"n": 1}
    yield {"n": 2}


@pytest.mark.parametrize("name", ["org/a", "a"])
def test_each_stage_is_a_line(server: ScriptedServer, capsys: pytest.CaptureFixture[str], name: str) -> None:
    server.statuses = [[WEIGHTS], [WEIGHTS], [GRAPHS], [READY]]
    with AdminClient(server.url) as client:
        chunks = list(told_meanwhile(client, name, after_looks(server, 4), first_after_s=0.0))
    assert chunks == [{"n": 1}, {"n": 2}]
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert not out
    assert first.startswith("org/a: Starting, loading weights, ")
    assert first.endswith("s, about 30s left")
    assert second.startswith("org/a: Starting, capturing graphs, ")
    assert "left" not in second


def test_nothing_is_said_of_who_is_ready_or_of_others(server: ScriptedServer, capsys) -> None:
    server.statuses = [[READY, a_running("org/b", "Starting", stage="compiling")]]
    with AdminClient(server.url) as client:
        assert len(list(told_meanwhile(client, "a", after_looks(server, 2), first_after_s=0.0))) == 2
    assert capsys.readouterr().err == ""


def test_who_may_not_see_the_state_gets_the_answer_all_the_same(server: ScriptedServer, capsys) -> None:
    with AdminClient("http://127.0.0.1:9") as nobody:
        assert len(list(told_meanwhile(nobody, "a", after_looks(server, 0), first_after_s=0.0))) == 2
    assert capsys.readouterr().err == ""


def test_an_answer_that_breaks_off_ends_it(server: ScriptedServer) -> None:
    def breaks() -> Iterator[dict[str, Any]]:
        yield from ()
        raise ValueError("broke off")

    with AdminClient(server.url) as client, pytest.raises(ValueError, match="broke off"):
        list(told_meanwhile(client, "a", breaks()))
