import socket
import ssl
import threading
from pathlib import Path

import pytest

from tests import certificates
from tests.cli.answers import a_status
from tests.cli.scripted import ScriptedServer
from vllama.cli.client import AdminClient, trusting
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


def test_a_model_is_as_far_up_as_the_best_of_its_replicas(server: ScriptedServer) -> None:
    second = a_status("org/a#2") | {"phase": "Ready", "replica": 2, "replica_of": "org/a"}
    server.statuses = [[a_status("org/b"), a_status("org/a"), second]]
    with AdminClient(server.url) as client:
        status = client.model("org/a")
    assert status is not None
    assert (status["model"], status["phase"]) == ("org/a", "Ready")


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


def test_the_key_is_shown_with_every_request(server: ScriptedServer) -> None:
    with AdminClient(server.url, api_key="k1") as client:
        client.status()
        client.plans(settle=False)
    with AdminClient(server.url) as client:
        client.status()
    assert server.shown == ["Bearer k1", "Bearer k1", None]


@pytest.mark.parametrize("key", ["two words", "k\n", "schlüssel"])
def test_a_key_that_is_none_is_said_and_not_repeated(key: str) -> None:
    with pytest.raises(CommandFailed, match="has spaces or characters that no key has") as failed:
        AdminClient("http://127.0.0.1:1", api_key=key)
    assert key not in failed.value.message


def test_over_tls_only_the_certificate_of_that_server_is_believed(server: ScriptedServer, tmp_path: Path) -> None:
    certificate, key = certificates.write(tmp_path, certificates.issued("gpu-box.example"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://127.0.0.1:{server.server_port}"
    with AdminClient(url, trust=trusting(certificate)) as client:  # it has another name
        assert client.status()["models"] == []
    (tmp_path / "other").mkdir()
    other, _ = certificates.write(tmp_path / "other", certificates.issued("other.example"))
    other.write_bytes(other.read_bytes() + certificates.authority().cert_pem.bytes())  # with who issued both
    for trust in (trusting(other), trusting(None), None):
        with (
            AdminClient(url, trust=trust) as client,
            pytest.raises(CommandFailed, match="do not agree on TLS") as failed,
        ):
            client.status()
        assert failed.value.exit_code == NO_SERVER


def test_a_certificate_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"none\.pem, and that cannot be read: No such file"):
        trusting(tmp_path / "none.pem")
    (tmp_path / "bad.pem").write_text("nonsense")
    with pytest.raises(CommandFailed, match=r"bad\.pem, and that cannot be read"):
        trusting(tmp_path / "bad.pem")
