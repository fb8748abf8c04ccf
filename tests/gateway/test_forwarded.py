import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllama.gateway.forwarded import Proxies, is_loopback, proxies

PROXY = "10.0.0.1"
NET = proxies("127.0.0.0/8 10.0.0.0/24,fd00::/8")


def way(*told: tuple[bytes, bytes], peer: str | None = PROXY, believed: Proxies = NET) -> tuple[str | None, ...]:
    return believed.way(peer, told)


@pytest.mark.parametrize("name", [b"x-forwarded-for", b"forwarded"])
def test_nobody_is_believed_unasked(name: bytes) -> None:
    assert way((name, b"for=1.2.3.4"), believed=Proxies()) == (PROXY,)
    assert way((name, b"for=1.2.3.4"), peer="10.0.1.1") == ("10.0.1.1",)
    assert way((name, b"for=1.2.3.4"), peer=None) == (None,)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"1.2.3.4", ("1.2.3.4",)),
        (b" 1.2.3.4 ", ("1.2.3.4",)),
        (b"1.2.3.4:5678", ("1.2.3.4",)),
        (b"2001:db8::1", ("2001:db8::1",)),
        (b"[2001:db8::1]:80", ("2001:db8::1",)),
        (b"::ffff:1.2.3.4", ("1.2.3.4",)),
        (b"9.9.9.9, 1.2.3.4", ("1.2.3.4",)),
        (b"9.9.9.9, 1.2.3.4, 10.0.0.7", ("1.2.3.4", "10.0.0.7")),
        (b"10.0.0.9, 10.0.0.7", ("10.0.0.9", "10.0.0.7")),
        (b"9.9.9.9, rubbish", (None,)),
        (b"1.2.3.4,", (None,)),
        (b"", (None,)),
        (b"127.0.0.1\xff", (None,)),
        (b"0x7f.1", (None,)),
        (b"2130706433", (None,)),
    ],
)
def test_the_rightmost_that_is_no_proxy_is_the_client(value: bytes, found: tuple[str | None, ...]) -> None:
    assert way((b"x-forwarded-for", value)) == (*found, PROXY)


def test_several_lines_are_one_list() -> None:
    assert way((b"x-forwarded-for", b"9.9.9.9"), (b"via", b"x"), (b"x-forwarded-for", b"10.0.0.7")) == (
        "9.9.9.9",
        "10.0.0.7",
        PROXY,
    )


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"for=1.2.3.4", ("1.2.3.4",)),
        (b'For="[2001:db8:cafe::17]:4711"', ("2001:db8:cafe::17",)),
        (b'for="1.2.3.4:80";proto=https;by=10.0.0.1', ("1.2.3.4",)),
        (b"proto=https; for=1.2.3.4", ("1.2.3.4",)),
        (b"for=9.9.9.9, for=1.2.3.4;host=x", ("1.2.3.4",)),
        (b"for=1.2.3.4, for=10.0.0.7", ("1.2.3.4", "10.0.0.7")),
        (b"for=unknown", (None,)),
        (b"for=_hidden", (None,)),
        (b"for=1.2.3.4, proto=https", (None,)),
        (b'for="127.0.0.1, for=1.2.3.4', (None,)),  # a quote that the client left open
        (b'for="x, for="[::1]""', (None,)),
        (b"for 127.0.0.1", (None,)),
        (b"for=127.0.0.1 for=1.2.3.4", (None,)),
        (b'host="a,for=127.0.0.1"', (None,)),
        (b"", (None,)),
    ],
)
def test_rfc_7239(value: bytes, found: tuple[str | None, ...]) -> None:
    assert way((b"forwarded", value)) == (*found, PROXY)


def test_two_headers_count_where_they_agree() -> None:
    usual, standard = (b"x-forwarded-for", b"9.9.9.9, 1.2.3.4"), (b"forwarded", b"for=9.9.9.9, for=1.2.3.4")
    assert way(usual, standard) == ("1.2.3.4", PROXY)
    assert way(usual, (b"forwarded", b"for=127.0.0.1")) == (None, PROXY)
    assert way((b"x-forwarded-for", b"127.0.0.1"), (b"forwarded", b"for=1.2.3.4")) == (None, PROXY)


@pytest.mark.parametrize("name", [b"x-real-ip", b"via"])
def test_a_proxy_that_does_not_say_for_whom_leaves_it_unknown(name: bytes) -> None:
    assert way((name, b"1.2.3.4")) == (None, PROXY)
    assert way((b"accept", b"*/*")) == (PROXY,)


@pytest.mark.parametrize(
    ("text", "why"), [("*", "name the proxies"), ("10.0.0.1/8", "host bits"), ("nginx", "is no address")]
)
def test_what_is_no_address_is_said(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        proxies(text)


@given(st.lists(st.tuples(st.sampled_from([b"x-forwarded-for", b"forwarded", b"via"]), st.binary(max_size=60))))
def test_what_a_client_writes_cannot_outweigh_what_the_proxy_appends(written: list[tuple[bytes, bytes]]) -> None:
    theirs = (b"x-forwarded-for", b"203.0.113.9")
    told = NET.way("127.0.0.1", [*written, theirs])
    assert told[-2] in ("203.0.113.9", None)
    assert not all(is_loopback(address) for address in told)
