"""The `anthropic` package, as its users write it."""

import asyncio

import anthropic
import pytest

from tests.clients.conftest import AT_ONCE, CALLED_WITH, WEATHER

ASKED = {"model": "talk", "max_tokens": 6, "messages": [{"role": "user", "content": "hello"}]}
TOOLS = ASKED | {"max_tokens": 100, "tools": [{"name": "weather", "description": "It.", "input_schema": WEATHER}]}


@pytest.fixture(scope="module")
def client(server):
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=30)


def run(server, work):
    async def main():
        async with anthropic.AsyncAnthropic(base_url=server.url, api_key="none", max_retries=0, timeout=30) as client:
            return await work(client)

    return asyncio.run(main())


def test_a_message_whole_and_streamed(client):
    whole = client.messages.create(**ASKED)
    assert (whole.stop_reason, whole.usage.output_tokens) == ("max_tokens", 6)
    with client.messages.stream(**ASKED) as stream:
        said = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert said == whole.content[0].text == final.content[0].text
    assert final.usage.output_tokens == 6


def test_tokens_are_counted(client):
    assert client.messages.count_tokens(model="talk", messages=ASKED["messages"]).input_tokens > 0


def test_a_tool_is_used_and_its_result_is_spoken_of(client):
    used = client.messages.create(**TOOLS)
    (block,) = used.content
    assert (used.stop_reason, block.type, block.name, block.input) == ("tool_use", "tool_use", "weather", CALLED_WITH)
    with client.messages.stream(**TOOLS) as stream:
        assert stream.get_final_message().content[0].input == CALLED_WITH
    result = {"type": "tool_result", "tool_use_id": block.id, "content": "rain"}
    messages = [
        *ASKED["messages"],
        {"role": "assistant", "content": used.content},
        {"role": "user", "content": [result]},
    ]
    said = client.messages.create(**TOOLS | {"messages": messages})
    assert said.content[0].type == "text"


def test_errors_are_of_their_own_kinds(client):
    with pytest.raises(anthropic.NotFoundError, match="There is no model 'claude-sonnet'"):
        client.messages.create(**ASKED | {"model": "claude-sonnet"})
    with pytest.raises(anthropic.BadRequestError, match="max_tokens must be positive"):
        client.messages.create(**ASKED | {"max_tokens": 0})


def test_a_stream_that_is_left_ends_at_the_engine_too(client, server, idle):
    with client.messages.stream(**ASKED | {"max_tokens": 4000}) as stream:
        for _, text in zip(range(3), stream.text_stream, strict=False):
            assert text
        assert server.ps()["org/chat"]["in_flight"] == 1
    idle("org/chat")


def test_many_at_once(server):
    async def work(client):
        async def ask(number):
            async with client.messages.stream(**ASKED | {"model": ("talk", "org/other")[number % 2]}) as stream:
                return await stream.get_final_message()

        return await asyncio.gather(*map(ask, range(AT_ONCE)))

    assert [message.usage.output_tokens for message in run(server, work)] == [6] * AT_ONCE
