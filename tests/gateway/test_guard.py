from typing import Any

import pytest

from vllama.gateway.errors import ErrorAnswer
from vllama.gateway.forwarded import Proxies, proxies
from vllama.gateway.guard import KEY, Guard
from vllama.gateway.headers import Header
from vllama.gateway.keys.key import Key, Scope
from vllama.gateway.keys.ring import Keyring

HOST = (b"host", b"localhost:11434")
ADMIN, MODELS = Key(name="ops", scope=Scope.ADMIN), Key(name="laptop", scope=Scope.MODELS)
NO_KEYS, KEYS = Keyring(), Keyring(ring={b"1": ADMIN, b"2": MODELS})


def refusal(
    peer: str | None, headers: list[Header], *, key: Key | None = None, guard: Guard | None = None
) -> ErrorAnswer | None:
    scope: dict[str, Any] = {"client": None if peer is None else (peer, 1), "headers": headers, "state": {KEY: key}}
    return (guard or Guard()).admin_refusal(scope)


def said(peer: str | None, headers: list[Header], guard: Guard | None = None) -> str:
    answer = refusal(peer, headers, guard=guard)
    assert answer is not None
    assert answer.status == 403
    return answer.message


@pytest.mark.parametrize("keyring", [NO_KEYS, KEYS])
@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize(
    "host", [b"localhost", b"LocalHost:80", b"127.0.0.1:11434", b"[::1]:11434", b"vllama.localhost"]
)
def test_this_machine_is_welcome(keyring: Keyring, peer: str, host: bytes) -> None:
    assert refusal(peer, [(b"host", host)], guard=Guard(keyring=keyring)) is None


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "128.0.0.1", "testclient", "", None])
def test_other_machines_are_not(peer: str | None) -> None:
    assert "only to this machine" in said(peer, [HOST])


@pytest.mark.parametrize("name", [b"x-forwarded-for", b"forwarded", b"x-real-ip", b"via"])
def test_nothing_comes_through_a_proxy(name: bytes) -> None:
    assert name.decode() in said("127.0.0.1", [HOST, (name, b"127.0.0.1")])


@pytest.mark.parametrize(
    "origin", [b"http://evil.example", b"null", b"http://localhost:3000", b"http://localhost", b"", b"//["]
)
def test_pages_of_other_sites_are_refused(origin: bytes) -> None:
    assert "pages of other sites" in said("127.0.0.1", [HOST, (b"origin", origin)])


def test_our_own_page_is_welcome() -> None:
    assert refusal("127.0.0.1", [HOST, (b"origin", b"http://LOCALHOST:11434")]) is None


@pytest.mark.parametrize(
    "hosts", [[b"evil.example"], [b"localhost.evil.example"], [b"[::1"], [], [b"localhost", b"evil.example"]]
)
def test_a_foreign_name_that_resolves_to_this_machine_is_refused(hosts: list[bytes]) -> None:
    headers = [(b"host", host) for host in hosts] + [(b"origin", b"http://" + host) for host in hosts]
    assert "is called as localhost" in said("127.0.0.1", headers)


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.0.0.1", None])
@pytest.mark.parametrize("headers", [[], [(b"x-forwarded-for", b"10.1.1.1")], [(b"origin", b"https://vllama.example")]])
def test_with_a_key_for_it_anybody_is_welcome_from_anywhere(peer: str | None, headers: list[Header]) -> None:
    headers = [(b"host", b"vllama.example"), *headers]
    assert refusal(peer, headers, key=ADMIN, guard=Guard(keyring=KEYS, admin_loopback=False)) is None


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.0.0.1"])
@pytest.mark.parametrize("origin", [b"https://evil.example", b"null", b"https://vllama.example:444"])
def test_with_a_key_for_it_pages_of_other_sites_are_still_refused(peer: str, origin: bytes) -> None:
    headers = [(b"host", b"vllama.example"), (b"origin", origin)]
    answer = refusal(peer, headers, key=ADMIN, guard=Guard(keyring=KEYS))
    assert answer is not None
    assert (answer.status, "pages of other sites" in answer.message) == (403, True)


@pytest.mark.parametrize("guard", [Guard(keyring=KEYS), Guard(keyring=KEYS, admin_loopback=False)])
def test_from_elsewhere_the_key_must_be_one_for_it(guard: Guard) -> None:
    without = refusal("10.0.0.1", [HOST], guard=guard)
    assert without is not None
    assert (without.status, without.code) == (401, "invalid_api_key")
    assert "scope admin" in without.message
    lesser = refusal("10.0.0.1", [HOST], key=MODELS, guard=guard)
    assert lesser is not None
    assert lesser.status == 403
    assert "laptop is for the models only" in lesser.message


def test_a_lesser_key_takes_nothing_from_this_machine() -> None:
    assert refusal("127.0.0.1", [HOST], key=MODELS, guard=Guard(keyring=KEYS)) is None


def test_without_the_loopback_rule_this_machine_needs_a_key_too() -> None:
    closed = refusal("127.0.0.1", [HOST], guard=Guard(keyring=KEYS, admin_loopback=False))
    assert closed is not None
    assert closed.status == 401
    assert "there are no keys" in said("127.0.0.1", [HOST], Guard(admin_loopback=False))


BEHIND = [(b"host", b"localhost")]


@pytest.mark.parametrize(
    ("peer", "told", "welcome"),
    [
        ("127.0.0.1", [], True),  # nobody's proxy: a program here
        ("127.0.0.1", [(b"x-forwarded-for", b"127.0.0.1")], True),
        ("127.0.0.1", [(b"forwarded", b"for=127.0.0.1")], True),
        ("127.0.0.1", [(b"x-forwarded-for", b"203.0.113.9")], False),
        ("127.0.0.1", [(b"x-forwarded-for", b"127.0.0.1, 203.0.113.9")], False),  # the left one is the client's own
        ("127.0.0.1", [(b"x-forwarded-for", b"127.0.0.1"), (b"x-forwarded-for", b"203.0.113.9")], False),
        ("127.0.0.1", [(b"x-forwarded-for", b"127.0.0.1"), (b"forwarded", b"for=203.0.113.9")], False),
        ("127.0.0.1", [(b"forwarded", b"for=127.0.0.1, for=203.0.113.9")], False),
        ("127.0.0.1", [(b"x-real-ip", b"127.0.0.1")], False),
        ("127.0.0.1", [(b"via", b"1.1 proxy")], False),
        ("127.0.0.1", [(b"x-forwarded-for", b"unknown")], False),
        ("127.0.0.1", [(b"x-forwarded-for", b"127.0.0.1, 10.0.0.5")], False),  # loopback of 10.0.0.5
        ("10.0.0.5", [(b"x-forwarded-for", b"127.0.0.1")], False),
        ("10.0.0.6", [(b"x-forwarded-for", b"127.0.0.1")], False),
    ],
)
def test_behind_a_proxy_that_is_believed_its_client_counts(peer: str, told: list[Header], welcome: bool) -> None:
    guard = Guard(proxies=proxies("127.0.0.1, 10.0.0.5"))
    assert (refusal(peer, BEHIND + told, guard=guard) is None) is welcome
    if told:
        assert refusal(peer, BEHIND + told, guard=Guard(proxies=Proxies())) is not None


def test_the_clients_address_is_named() -> None:
    guard = Guard(proxies=proxies("127.0.0.1"))
    assert "came from 203.0.113.9." in said("127.0.0.1", [*BEHIND, (b"x-forwarded-for", b"::1, 203.0.113.9")], guard)
