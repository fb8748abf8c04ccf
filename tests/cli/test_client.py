import socket
import threading

import pytest

from tests.cli.answers import a_status
from tests.cli.scripted import ScriptedServer
from vllama.cli.client import AdminClient
from vllama.cli.failure import FAILED, NO_SERVER, CommandFailed


def test_a_name_travels_as_it_is(server: ScriptedServer) -> None:
    server.asked = 202, a_status("org/a")
    with AdminClient(server.url) as client:
        client.ask("org/a", "sleep", {"level": 2})
        client.ask("odd name?#é", "start")
    assert server.requests == [
        ("POST", "/admin/models/org/a/sleep", {"level": 2}),
        ("POST", "/admin/models/odd%20name%3F%23%C3%A9/start", None),
    ]


def test_plans_are_asked_for_with_or_without_the_end(server: ScriptedServer) -> None:
    with AdminClient(server.url) as client:
        client.plans(settle=False)
        client.plans(settle=True)
    assert [path for _, path, _ in server.requests] == ["/admin/plan?settle=0", "/admin/plan?settle=1"]


def test_what_the_server_says_is_what_is_shown(server: ScriptedServer) -> None:
    server.asked = 404, {"error": {"message": "There is no model 'x'. Nearest: org/a.", "type": "not_found"}}
    with AdminClient(server.url) as client, pytest.raises(CommandFailed) as failed:
        client.ask("x", "start")
    assert failed.value.message == "There is no model 'x'. Nearest: org/a."
    assert failed.value.exit_code == FAILED


@pytest.mark.parametrize(
    "answer", [(200, "<html>"), (200, {"ok": True}), (500, "oops"), (404, {"detail": "Not Found"})]
)
def test_another_kind_of_server_is_recognised(server: ScriptedServer, answer: tuple[int, object]) -> None:
    server.asked = answer
    with AdminClient(server.url) as client, pytest.raises(CommandFailed, match="not as a vllama server does"):
        client.ask("org/a", "stop")


def test_nobody_listens(server: ScriptedServer) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with (
            AdminClient(url) as client,
            pytest.raises(CommandFailed, match=f"no vllama server answers at {url}") as failed,
        ):
            client.status()
    assert failed.value.exit_code == NO_SERVER


def test_a_server_that_hangs_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hangs:
        url = f"http://127.0.0.1:{hangs.getsockname()[1]}"
        hasty = AdminClient(url, answer_s=0.05)
        with hasty as client, pytest.raises(CommandFailed, match=r"did not answer within 0\.05 s") as failed:
            client.status()
    assert failed.value.exit_code == NO_SERVER


def test_a_server_that_hangs_up_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with AdminClient(url) as client, pytest.raises(CommandFailed, match=url):
            client.status()
        thread.join()


def test_proxies_of_the_environment_are_not_for_this(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with AdminClient(server.url) as client:
        assert client.model("org/a") is None
