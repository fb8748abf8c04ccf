"""Where a body ends, however it is cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllama.gateway.wire.framing import Chunked, Counted, Unframed

PIECES = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
EXTENSIONS = st.sampled_from([b"", b";a=b", b" ; x", b';q="1"'])
TRAILERS = st.lists(st.sampled_from([b"x: 1\r\n", b"y-z:\r\n", b"a: \xff\r\n"]), max_size=3)
CUTS = st.lists(st.integers(min_value=0, max_value=400), max_size=12)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({min(one, len(data)) for one in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(at)]


def chunked(pieces: list[bytes], extension: bytes = b"", trailers: list[bytes] | None = None) -> bytes:
    chunks = [b"%X%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces]
    return b"".join([*chunks, b"0\r\n", *(trailers or []), b"\r\n"])


@given(PIECES, EXTENSIONS, TRAILERS, CUTS, st.binary(max_size=20))
def test_chunks_are_put_together_and_what_follows_is_left(
    pieces: list[bytes], extension: bytes, trailers: list[bytes], cuts: list[int], behind: bytes
) -> None:
    wire = chunked(pieces, extension, trailers)
    reader, into, left = Chunked(), bytearray(), b""
    for piece in cut(wire + behind, cuts):
        if reader.done:
            left += piece
            continue
        left += piece[reader.feed(piece, into) :]
    assert reader.done
    assert bytes(into) == b"".join(pieces)
    assert left == behind


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=4), CUTS)
def test_between_chunks_is_known_at_every_cut(pieces: list[bytes], cuts: list[int]) -> None:
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    ends = {sum(map(len, chunks[:count])) for count in range(len(chunks) + 1)}
    reader, at = Chunked(), 0
    for piece in cut(b"".join(chunks), cuts):
        at += reader.feed(piece)
        assert reader.between == (at in ends)


@given(st.integers(min_value=1, max_value=5000), st.sampled_from([b"%x", b"%X", b"0%x", b"00%x"]), st.integers(0, 2))
def test_a_chunk_by_itself_is_read_as_any_other(size: int, spelled: bytes, missing: int) -> None:
    """Engines send each token as one chunk, which has a way of its own."""
    wire = b"%b\r\n%b\r\n" % (spelled % size, b"\r" * size)
    came = wire[: len(wire) - missing]
    quick, slow = Chunked(), Chunked()
    assert quick.feed(came) == slow.feed(came, bytearray()) == len(came)
    assert quick.between == slow.between == (not missing)
    assert quick.feed(wire[len(came) :] + b"0\r\n\r\n") == missing + 5
    assert quick.done


@given(st.integers(min_value=1, max_value=5000), st.sampled_from([-1, 1, 2]))
def test_a_chunk_by_itself_that_is_not_as_long_as_it_says_is_refused(size: int, wrong: int) -> None:
    reader = Chunked()

    def read() -> None:
        for piece in (b"%x\r\n%b\r\n" % (size + wrong, b"a" * size), b"a" * 9):
            reader.feed(piece)

    with pytest.raises(Unframed):
        read()


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n", b"-1\r\n", b"+1\r\n", b"0x1\r\na\r\n", b"1_0\r\n", b" 1\r\na\r\n", b"g\r\n", b"1\na\r\n", b"1\r\na\n",
        b"1\r\nab\r\n", b"2\r\na\r\n0\r\n\r\n", b"1\r\na0\r\n\r\n", b"1;\x00\r\na\r\n", b"1;\n\r\na\r\n",
        b"1;" + b"x" * 99,
        b"f" * 16 + b"\r\n", b"1" * 99, b"0\r\nx\r\n\r\n", b"0\r\n x: 1\r\n\r\n", b"0\r\nx : 1\r\n\r\n",
        b"0\r\nx: 1\n\r\n",
        b"0\r\n" + b"x: 1\r\n" * 999, b"0\r\nx: " + b"1" * 9999, b"1\r\r\na\r\n", b"1\r\naXX0\r\n\r\n", b"0\r\n\rX",
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [1, 2, 3, 10_000])
def test_what_is_framed_otherwise_is_refused_however_it_is_cut(wire: bytes, step: int) -> None:
    reader = Chunked()

    def read() -> None:
        for start in range(0, len(wire), step):
            reader.feed(wire[start : start + step])

    with pytest.raises(Unframed):
        read()


@given(st.binary(max_size=100), st.integers(min_value=0, max_value=100), CUTS)
def test_counted_bytes_are_counted(data: bytes, length: int, cuts: list[int]) -> None:
    reader, used, into = Counted(length), 0, bytearray()
    for piece in cut(data, cuts):
        if not reader.done:
            used += reader.feed(piece, into)
    assert used == min(length, len(data))
    assert bytes(into) == data[:used]
    assert reader.done == (length <= len(data))
