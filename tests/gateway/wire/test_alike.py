"""A head that is like the one before it is read as it would be read anew, and any other is not taken for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gateway.house import CHAT, MODEL, House, live
from tests.gateway.upstream import Exchange
from vllama.gateway.inference import Refused
from vllama.gateway.wire.alike import Alike
from vllama.gateway.wire.request import Request, parse

HEAD = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %b\r\nX-Mine: b"
ODD_LENGTHS = (b"", b"-1", b"+1", b" 1", b"1 ", b"1,1", b"1_0", b"0x1", b"9" * 19, b"1\r", b"1\r\n2", "²".encode())
PLAIN = HEAD % (CHAT.encode(), b"12")


def alike(head: bytes = PLAIN) -> Alike[Request]:
    return Alike(head, parse(head, most_headers=100)[0])


@pytest.mark.parametrize("length", [b"0", b"12", b"7", b"123456789", b"000012", b"9" * 18])
def test_only_the_length_may_differ(length: bytes) -> None:
    head = HEAD % (CHAT.encode(), length)
    one = alike()
    for behind in (b"", b"body"):
        assert (one.match(head + b"\r\n\r\n" + behind), one.end) == (int(length), len(head) + 4)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        PLAIN,
        PLAIN + b"\r\n",
        PLAIN[:-1] + b"\r\n\r\n",
        PLAIN.replace(b"POST", b"post") + b"\r\n\r\n",
        PLAIN + b"\r\nContent-Length: 5\r\n\r\n",
        *(HEAD % (CHAT.encode(), odd) + b"\r\n\r\n" for odd in ODD_LENGTHS),
    ],
)
def test_any_other_head_is_another_one(data: bytes) -> None:
    assert alike().match(data) < 0


LINES = st.sampled_from(
    [b"Host: a", b"Content-Length: 5", b"content-length: 5", b"Content-Length: 55", b"CONTENT-LENGTH: 5", b"X: y",
     b"Transfer-Encoding: chunked", b"X: \r\nContent-Length: 1", b"Connection: close", b"Content-Length: 5x"]
)  # fmt: skip
HEADS = st.lists(LINES, max_size=4).map(lambda lines: b"\r\n".join([b"POST / HTTP/1.1", b"Host: a", *lines]))


@given(HEADS, HEADS, st.binary(max_size=4))
def test_what_matches_is_read_the_same(first: bytes, second: bytes, body: bytes) -> None:
    try:
        one = alike(first)
    except Refused:
        return
    found = one.match(second + b"\r\n\r\n" + body)
    if found < 0:
        return
    request, length = parse(second, most_headers=100)
    assert (request, length, len(second) + 4) == (one.read, found, one.end)


def test_requests_and_answers_of_many_lengths_on_one_connection() -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.answer(exchange.body[::-1])

        here.upstream.script = script
        here.open()
        for size in (0, 5, 5, 5, 4000, 3, 3, 70_000, 5, 5, 100_000, 100_000, 100_000, 1):
            body = b'{"model":"%s","x":"%s"}' % (MODEL.encode(), b"x" * size)
            answer = await here.http.post(CHAT, content=body)
            assert answer.content == body[::-1]
        answer = await here.http.post(CHAT, content=b"{}")
        assert answer.status_code == 400
        assert here.upstream.connections == 1

    live(test)
