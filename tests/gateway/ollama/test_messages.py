"""Conversations: images, thoughts, and tool calls that find their answers."""

import json

import pytest

from tests.gateway.ollama.test_ask import ask
from vllama.gateway.ollama.ask import Kind

PNG = "iVBORw0KGgoAAAANSUhEUg=="


def messages(*given) -> list[dict]:
    return ask(Kind.CHAT, messages=list(given))[1]["messages"]


def call(name, arguments, **more) -> dict:
    return {"function": {"name": name, "arguments": arguments}} | more


@pytest.mark.parametrize(
    ("image", "url"),
    [
        (PNG, f"data:image/png;base64,{PNG}"),
        ("/9j/4AAQ", "data:image/jpeg;base64,/9j/4AAQ"),
        ("UklGRg", "data:image/webp;base64,UklGRg"),
        ("R0lGODlh", "data:image/gif;base64,R0lGODlh"),
        ("AAAA", "data:image/png;base64,AAAA"),
        ("data:image/bmp;base64,Qk0=", "data:image/bmp;base64,Qk0="),
    ],
)
def test_an_image_becomes_a_data_url(image, url):
    (said,) = messages({"role": "user", "content": "what is it?", "images": [image]})
    picture = {"type": "image_url", "image_url": {"url": url}}
    assert said["content"] == [{"type": "text", "text": "what is it?"}, picture]
    assert ask(Kind.GENERATE, images=[image])[1]["messages"] == [{"role": "user", "content": [picture]}]


def test_what_the_model_thought_goes_back_to_it():
    (_, said) = messages({"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "thinking": "hm"})
    assert said == {"role": "assistant", "content": "b", "reasoning": "hm"}


def test_calls_get_ids_and_answers_without_one_find_their_call():
    found = messages(
        {"role": "user", "content": "?"},
        {"role": "assistant", "tool_calls": [call("one", {"a": 1.10}), call("two", {}), call("one", {"a": [None]})]},
        {"role": "tool", "tool_name": "two", "content": "second"},
        {"role": "tool", "tool_name": "one", "content": "first"},
        {"role": "tool", "content": "third"},
    )
    calls = found[1]["tool_calls"]
    assert [one["id"] for one in calls] == ["call_1_0", "call_1_1", "call_1_2"]
    assert [json.loads(one["function"]["arguments"]) for one in calls] == [{"a": 1.1}, {}, {"a": [None]}]
    assert [one["type"] for one in calls] == ["function"] * 3
    assert [one["tool_call_id"] for one in found[2:]] == ["call_1_1", "call_1_0", "call_1_2"]
    assert [one.get("name") for one in found[2:]] == ["two", "one", None]


def test_ids_that_the_client_knows_are_kept():
    found = messages(
        {"role": "assistant", "tool_calls": [call("f", '{"as": "text"}', id="x"), call("f", {}, id="y")]},
        {"role": "tool", "tool_call_id": "y", "content": "Y"},
        {"role": "tool", "tool_call_id": "x", "content": "X"},
    )
    assert [one["id"] for one in found[0]["tool_calls"]] == ["x", "y"]
    assert found[0]["tool_calls"][0]["function"]["arguments"] == '{"as": "text"}'
    assert [one["tool_call_id"] for one in found[1:]] == ["y", "x"]


def test_an_answer_to_nothing_is_left_to_the_engine():
    assert messages({"role": "tool", "content": "?"})[0]["tool_call_id"] == "call_unknown"
