"""Events come out the same however their bytes are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllama.gateway.ollama import events
from vllama.gateway.ollama.events import Events, TooLong

TEXT = (
    'data: {"a":"héé 🦙"}\n\n: a comment\n\nevent: x\r\ndata:{"b":1}\r\nid: 7\r\n\r\ndata: one\ndata: two\n\n\n'
    "data: [DONE]\n\ndata: never ended"
).encode()
FOUND = ['{"a":"héé 🦙"}'.encode(), b'{"b":1}', b"one\ntwo", b"[DONE]"]


@given(st.lists(st.integers(0, len(TEXT)), max_size=20))
def test_any_cut(cuts):
    reader, found = Events(), []
    edges = [0, *sorted(cuts), len(TEXT)]
    for start, end in pairwise(edges):
        found += reader.feed(TEXT[start:end])
    assert found == FOUND


def test_one_byte_at_a_time_each_is_there_with_its_last_byte():
    reader = Events()
    found = [(at, event) for at in range(len(TEXT)) for event in reader.feed(TEXT[at : at + 1])]
    assert [event for _, event in found] == FOUND
    assert found[0][0] == TEXT.index(b"\n\n") + 1


@pytest.mark.parametrize("piece", [b"x" * 1000, b"data: " + b"x" * 993 + b"\n"])
def test_what_never_ends_is_not_kept_for_ever(piece, monkeypatch):
    monkeypatch.setattr(events, "LONGEST_BYTES", 10_000)
    reader = Events()
    for _ in range(9):
        reader.feed(piece)
    with pytest.raises(TooLong):
        reader.feed(piece * 2)
