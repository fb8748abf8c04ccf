"""Tokens at the end of an answer, as vLLM's dialects write them."""

import json

import pytest

from vllama.gateway.metrics.usage import LOOKED_AT_BYTES, usage_of


def compact(value):
    return json.dumps(value, separators=(",", ":")).encode()


CHAT = {
    "choices": [{"message": {"content": 'it said "usage":{"prompt_tokens":9} and {"usage": 1}'}}],
    "usage": {"prompt_tokens": 29, "total_tokens": 33, "completion_tokens": 4, "prompt_tokens_details": None},
    "prompt_logprobs": None,
}


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        (CHAT, (29, 4)),
        (CHAT | {"usage": CHAT["usage"] | {"prompt_tokens_details": {"cached_tokens": 16}}}, (29, 4)),
        (CHAT | {"usage": {"input_tokens_details": {"a": {"b": 1}}, "input_tokens": 5, "output_tokens": 6}}, (5, 6)),
        ({"data": [], "usage": {"prompt_tokens": 6, "total_tokens": 6, "completion_tokens": 0}}, (6, 0)),
        ({"type": "message", "usage": {"input_tokens": 7, "output_tokens": 8}}, (7, 8)),
        ({"usage": {"prompt_tokens": 26, "total_tokens": 26}, "results": [{"index": 0}]}, (26, 0)),
        ({"choices": [{"message": {"content": '"usage":{"prompt_tokens":9,"completion_tokens":9}'}}]}, None),
        ({"usage": None}, None),
        ({"usage": {"prompt_tokens": "many"}}, None),
        ({"usage": {"a": {}, "b": {}, "c": {}, "d": {}, "prompt_tokens": 1}}, None),
    ],
)
def test_of_one_object(answer, tokens):
    assert usage_of(compact(answer)) == tokens


def test_of_a_stream_whose_end_comes_piece_by_piece():
    last = b"data: " + compact({"choices": [], "usage": CHAT["usage"]}) + b"\n\n"
    pieces = [b"%x\r\n%b\r\n" % (len(event), event) for event in (last, b"data: [DONE]\n\n")]
    assert usage_of(b"".join([b"a chunk before", *pieces, b"0\r\n\r\n"])) == (29, 4)
    halves = [pieces[0][:40], pieces[0][40:], pieces[1]]
    assert usage_of(b"".join(halves)) == (29, 4)


def test_of_a_stream_of_messages_the_last_counts():
    start = b'data: {"type":"message_start","message":{"usage":{"input_tokens":7,"output_tokens":0}}}\n\n'
    delta = b'data: {"type":"message_delta","delta":{},"usage":{"input_tokens":7,"output_tokens":5}}\n\n'
    assert usage_of(b"".join([start, delta, b'data: {"type":"message_stop"}\n\n'])) == (7, 5)


@pytest.mark.parametrize("tail", [b"", b"}", b'"usage":', b'"usage":{', b'"usage":{"prompt_tokens":1', b'}"usage":'])
def test_what_is_cut_off_tells_nothing(tail):
    assert usage_of(tail) is None


def test_nothing():
    assert usage_of(b"") is None


def test_only_the_end_is_looked_at():
    far = compact({"usage": {"prompt_tokens": 1, "completion_tokens": 2}, "rest": "x" * LOOKED_AT_BYTES})
    assert usage_of(far) is None
