import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllama.gateway.headers import NoHeader, of_answer, of_request, without

request, answer = of_request(b""), of_answer(b"")

BYTES = st.lists(st.sampled_from([bytes([n]) for n in range(256)] + [b"host", b"Connection", b": ", b"a" * 300])).map(
    b"".join
)


def test_what_speaks_of_the_connection_or_the_length_is_told_and_the_rest_passes() -> None:
    assert request(b"Accept: x/y") is None
    assert request(b"Authorization: Bearer k ") == (b"authorization", b"Bearer k")
    assert request(b"X-API-Key: k") == (b"x-api-key", b"k")
    assert request(b"Origin: http://x") == (b"origin", b"http://x")
    assert answer(b"Access-Control-Allow-Origin: *") == (b"access-control-allow-origin", b"*")
    assert request(b"x-twice:\xe9") is None
    assert request(b"Content-Length:  3 \t") == (b"content-length", b"3")
    assert request(b"UPGRADE: h2c") == (b"upgrade", b"h2c")
    assert request(b"Host: vllama:80") == (b"host", b"vllama:80")
    assert answer(b"Host: x") is None
    assert answer(b"Server: uvicorn") == (b"server", b"uvicorn")


def test_what_connection_names_does_not_pass() -> None:
    lines = [b"X-Mine: 1", b"x-yours: 2", b"x-mine:3"]
    assert without(lines, b"keep-alive, x-mine") == [b"x-yours: 2"]


@pytest.mark.parametrize("name", [b"X-Forwarded-For", b"forwarded", b"Via", b"x-real-ip"])
def test_what_proxies_said_cannot_be_named_away(name: bytes) -> None:
    assert without([name + b": 1.2.3.4"], b"close, " + name.lower()) == [name + b": 1.2.3.4"]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"a",
        b": x",
        b"a : x",
        b" a: x",
        b"\ta: x",
        b"a\x00: x",
        b"a: \x00",
        b"a: b\rc: d",
        b"a: b\nc: d",
        b"a:\x7f",
    ],
)
def test_what_could_be_read_in_two_ways_is_no_header(line: bytes) -> None:
    for judge in (request, answer, of_request(b"x" * 9999)):
        with pytest.raises(NoHeader):
            judge(line)


class Heard:
    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))


@given(BYTES)
def test_llhttp_reads_the_same_in_every_line_that_passes(line: bytes) -> None:
    heard = Heard()
    try:
        told = answer(line)
    except NoHeader:
        return
    httptools.HttpRequestParser(heard).feed_data(b"GET / HTTP/1.1\r\n%b\r\n\r\n" % line)
    assert len(heard.headers) == 1
    assert told is None or heard.headers == [told]
