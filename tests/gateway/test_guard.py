import pytest

from vllama.gateway.guard import admin_refusal

HOST = (b"host", b"localhost:11434")


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize(
    "host", [b"localhost", b"LocalHost:80", b"127.0.0.1:11434", b"[::1]:11434", b"vllama.localhost"]
)
def test_this_machine_is_welcome(peer: str, host: bytes) -> None:
    assert admin_refusal(peer, [(b"host", host)]) is None


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "128.0.0.1", "testclient", "", None])
def test_other_machines_are_not(peer: str | None) -> None:
    assert "only to this machine" in (admin_refusal(peer, [HOST]) or "")


@pytest.mark.parametrize("name", [b"x-forwarded-for", b"forwarded", b"x-real-ip", b"via"])
def test_nothing_comes_through_a_proxy(name: bytes) -> None:
    assert name.decode() in (admin_refusal("127.0.0.1", [HOST, (name, b"127.0.0.1")]) or "")


@pytest.mark.parametrize(
    "origin", [b"http://evil.example", b"null", b"http://localhost:3000", b"http://localhost", b"", b"//["]
)
def test_pages_of_other_sites_are_refused(origin: bytes) -> None:
    assert "pages of other sites" in (admin_refusal("127.0.0.1", [HOST, (b"origin", origin)]) or "")


def test_our_own_page_is_welcome() -> None:
    assert admin_refusal("127.0.0.1", [HOST, (b"origin", b"http://LOCALHOST:11434")]) is None


@pytest.mark.parametrize(
    "hosts", [[b"evil.example"], [b"localhost.evil.example"], [b"[::1"], [], [b"localhost", b"evil.example"]]
)
def test_a_foreign_name_that_resolves_to_this_machine_is_refused(hosts: list[bytes]) -> None:
    headers = [(b"host", host) for host in hosts] + [(b"origin", b"http://" + host) for host in hosts]
    assert "is called as localhost" in (admin_refusal("127.0.0.1", headers) or "")
