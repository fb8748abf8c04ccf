"""Ollama's lines, for what an engine said."""

import json
from datetime import UTC, datetime

import pytest

from vllama.gateway.ollama import lines
from vllama.gateway.ollama.ask import Kind
from vllama.gateway.ollama.chunks import chunk_of, error_of, vectors_of
from vllama.gateway.ollama.lines import Lines, Times

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
HEAD = {"model": "m:latest", "created_at": "2026-01-02T12:00:00.000000Z"}


class Telling:
    """Feeds chunks, a second apart; the model was waited for 2 s, and the request came at 100."""

    def __init__(self, kind=Kind.CHAT, *, streamed=True):
        times = Times(begun_at=100.0, waited_s=2.0)
        self.lines = Lines(kind=kind, model="m:latest", streamed=streamed, times=times, wall=lambda: NOON)
        self.now = 102.0
        self.said = []

    def hear(self, *deltas, finish_reason=None, **more):
        for delta in deltas:
            self.now += 1
            chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason} | more]}
            self._keep(self.lines.feed(chunk_of(json.dumps(chunk).encode()), self.now))
        return self

    def end(self, **usage):
        if usage:
            self._keep(self.lines.feed(chunk_of(json.dumps({"choices": [], "usage": usage}).encode()), self.now))
        self.now += 1
        self._keep(self.lines.end(self.now))
        return self.said

    def _keep(self, said):
        assert said.endswith(b"\n") or not said
        self.said += [json.loads(line) for line in said.splitlines()]


def test_a_chat_in_lines_with_counts_and_measured_durations_in_the_last():
    telling = Telling().hear({"role": "assistant", "content": ""}, {"content": "a"}, {"content": "b"})
    found = telling.hear({"content": ""}, finish_reason="length").end(prompt_tokens=7, completion_tokens=2)
    assert found[:2] == [HEAD | {"message": {"role": "assistant", "content": c}, "done": False} for c in "ab"]
    assert found[2:] == [
        HEAD | {
            "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "length",
            "total_duration": 7 * 10**9, "load_duration": 2 * 10**9, "prompt_eval_duration": 2 * 10**9,
            "eval_duration": 10**9, "prompt_eval_count": 7, "eval_count": 2,
        }
    ]  # fmt: skip


def test_the_same_as_one_object():
    telling = Telling(streamed=False).hear({"role": "assistant", "content": ""}, {"content": "a"}, {"content": "b"})
    (found,) = telling.hear({"content": "c"}, finish_reason="stop").end(prompt_tokens=7, completion_tokens=3)
    assert (found["message"], found["done"], found["done_reason"]) == (
        {"role": "assistant", "content": "abc"}, True, "stop",
    )  # fmt: skip


def test_a_prompt_is_answered_in_response_whether_the_engine_chats_or_completes():
    chatted = Telling(Kind.GENERATE).hear({"content": "a"}).end()
    completed = Telling(Kind.GENERATE)
    completed.hear(None, text="a", logprobs={"tokens": ["a"]})
    for found in (chatted, completed.end()):
        assert found[0] == HEAD | {"response": "a", "done": False}
        assert (found[1]["response"], found[1]["done_reason"]) == ("", "stop")


@pytest.mark.parametrize("word", ["reasoning", "reasoning_content"])
@pytest.mark.parametrize("streamed", [True, False])
def test_thoughts(word, streamed):
    found = Telling(streamed=streamed).hear({word: "h"}, {word: "m"}, {"content": "a"}).end()
    if streamed:
        assert [line["message"].get("thinking") for line in found] == ["h", "m", None, None]
    else:
        assert found[0]["message"] == {"role": "assistant", "content": "a", "thinking": "hm"}


def delta(index, **function):
    more = {"id": f"id{index}", "type": "function"} if "name" in function else {}
    return {"content": None, "tool_calls": [{"index": index, "function": function} | more]}


@pytest.mark.parametrize("streamed", [True, False])
def test_tool_calls_come_whole_however_their_arguments_came(streamed):
    telling = Telling(streamed=streamed).hear(
        delta(0, name="f"), delta(0, arguments='{"u'), delta(0, arguments='nit":"c"}'), delta(1, name="g"),
    )  # fmt: skip
    found = telling.hear({}, finish_reason="tool_calls").end(prompt_tokens=1, completion_tokens=9)
    calls = [
        {"id": "id0", "function": {"index": 0, "name": "f", "arguments": {"unit": "c"}}},
        {"id": "id1", "function": {"index": 1, "name": "g", "arguments": {}}},
    ]
    assert found[0]["message"] == {"role": "assistant", "content": "", "tool_calls": calls}
    assert (found[-1]["done"], found[-1]["done_reason"]) == (True, "stop")
    assert len(found) == (2 if streamed else 1)
    assert found[-1]["eval_duration"] > 0


@pytest.mark.parametrize("arguments", ['{"unit":', "2", "[]"])
@pytest.mark.parametrize("streamed", [True, False])
def test_a_call_that_no_client_could_read_is_said_as_text(arguments, streamed):
    found = Telling(streamed=streamed).hear(delta(0, name="f", arguments=arguments)).end()
    assert "".join(line["message"]["content"] for line in found) == f"f({arguments})"
    assert all("tool_calls" not in line["message"] for line in found)


def test_logprobs_of_each_token():
    logprobs = {"content": [{"token": "a", "logprob": -0.25, "bytes": [97], "top_logprobs": []}]}
    found = Telling().hear({"content": "a"}, logprobs=logprobs).end()
    assert found[0]["logprobs"] == logprobs["content"]
    (whole,) = Telling(streamed=False).hear({"content": "a"}, {"content": "b"}, logprobs=logprobs).end()
    assert whole["logprobs"] == logprobs["content"] * 2


def test_an_answer_of_nothing_has_no_rate():
    (found,) = Telling().end(prompt_tokens=3, completion_tokens=0)
    assert not {"eval_duration", "prompt_eval_duration"} & found.keys()
    assert (found["prompt_eval_count"], found["total_duration"]) == (3, 3 * 10**9)


def test_vectors_in_the_order_of_the_texts():
    said = vectors_of(
        b'{"data":[{"index":1,"embedding":[1.10]},{"index":0,"embedding":[2]}],"usage":{"prompt_tokens":4}}'
    )
    times = Times(begun_at=1.0)
    new = lines.embeddings(Kind.EMBED, said, model="m", times=times, now=2.0)
    assert b'"embeddings":[[2],[1.10]]' in new
    assert json.loads(new)["prompt_eval_count"] == 4
    assert lines.embeddings(Kind.EMBEDDINGS, said, model="m", times=times, now=2.0) == b'{"embedding":[2]}'


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"error":{"message":"too long","code":400}}', "too long"),
        (b'{"error":"Unauthorized"}', "Unauthorized"),
        (b'{"detail":"Not Found"}', "Not Found"),
        (b'{"detail":[{"loc":1}]}', '[{"loc":1}]'),
        (b"<html>", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_the_sentence_of_an_error_whoever_wrote_it(body, sentence):
    assert error_of(body) == sentence
