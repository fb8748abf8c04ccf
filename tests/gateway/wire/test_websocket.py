"""Frames are seen as they are, whatever the cuts, and those that are none are refused."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gateway.wire.ear import masked
from tests.gateway.wire.test_framing import cut
from vllama.gateway.wire.websocket import BadFrames, Frame, Frames, accept_of, close_frame, frame, is_key, new_key
from vllama.simulator.websocket import frame as of_server

PAYLOADS = st.binary(max_size=40) | st.sampled_from([b"x" * size for size in (125, 126, 127, 300, 65_535, 65_536)])
CUTS = st.lists(st.integers(min_value=0, max_value=70_000), max_size=12)


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), PAYLOADS), max_size=5),
    CUTS,
    st.booleans(),
    st.binary(min_size=4, max_size=4),
)
def test_frames_pass_as_they_are_whatever_the_cuts(
    said: list[tuple[int, bytes]], cuts: list[int], of_client: bool, mask: bytes
) -> None:
    wires = [masked(op, data, mask=mask) if of_client else of_server(op, data) for op, data in said]
    frames = Frames(masked=of_client, short_bytes=200)
    came: list[Frame | bytes] = []
    for piece in cut(b"".join(wires), cuts):
        came += frames.feed(piece)
    assert b"".join(one if isinstance(one, bytes) else one.raw for one in came) == b"".join(wires)
    short = [(one.opcode, one.payload) for one in came if isinstance(one, Frame)]
    assert short == [(op, data) for op, data in said if len(data) <= 200]
    assert frames.between
    assert not frames.closed


def test_a_long_frame_passes_as_it_comes() -> None:
    frames = Frames(masked=False, short_bytes=10)
    wire = of_server(2, b"x" * 70_000)
    assert [*frames.feed(wire[:1]), *frames.feed(wire[1:500])] == [wire[:500]]
    assert not frames.between
    assert frames.feed(wire[500:] + of_server(1, b"y")) == [wire[500:], Frame(1, True, b"y", of_server(1, b"y"))]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
@pytest.mark.parametrize("of_client", [True, False])
def test_ours_are_read_back(size: int, of_client: bool) -> None:
    (read,) = Frames(masked=of_client, short_bytes=1 << 20).feed(frame(1, b"z" * size, masked=of_client))
    assert isinstance(read, Frame)
    assert (read.opcode, read.final, read.payload) == (1, True, b"z" * size)


def test_nothing_follows_a_close() -> None:
    frames = Frames(masked=True, short_bytes=200)
    wire = close_frame(1001, "é" * 100, masked=True)
    assert frames.feed(wire[:3]) == []
    assert not frames.closed
    (read,) = frames.feed(wire[3:])
    assert isinstance(read, Frame)
    assert (read.opcode, read.payload, frames.closed) == (8, (1001).to_bytes(2) + "é".encode() * 61, True)
    with pytest.raises(BadFrames):
        frames.feed(masked(1, b"x"))


@pytest.mark.parametrize(
    "wire",
    [
        masked(1, b"x", first=0xC0),  # compressed, which nobody agreed on
        masked(1, b"x", first=0x90),
        masked(3, b"x"),
        masked(11, b"x"),
        of_server(1, b"x"),  # not masked
        masked(9, b"x" * 126),
        masked(8, b"", first=0),
        b"\x82\xff" + b"\xff" * 8 + b"mask",
    ],
)
def test_what_is_no_frame_is_refused(wire: bytes) -> None:
    with pytest.raises(BadFrames):
        Frames(masked=True, short_bytes=100).feed(wire)
    with pytest.raises(BadFrames):
        Frames(masked=False, short_bytes=100).feed(masked(1, b"x"))


def test_the_handshake_is_that_of_the_standard() -> None:
    assert accept_of(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert len(base64.b64decode(new_key())) == 16
    assert is_key(new_key())
    assert not is_key(b"short")
