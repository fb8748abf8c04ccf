"""The `openai` package, as its users write it."""

import asyncio
import json

import openai
import pytest

from tests.clients.conftest import AT_ONCE, CALLED_WITH, WEATHER, at_once

HI = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": WEATHER}}


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=30)


def run(server, work):
    """`work(client)` with the asynchronous one."""

    async def main():
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=30) as client:
            return await work(client)

    return asyncio.run(main())


def test_a_chat_whole_and_streamed(client):
    whole = client.chat.completions.create(model="talk", messages=HI, max_tokens=8)
    assert whole.usage.completion_tokens == 8
    chunks = list(
        client.chat.completions.create(
            model="talk", messages=HI, max_tokens=8, stream=True, stream_options={"include_usage": True}
        )
    )
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == 8


def test_a_completion_and_a_response(client):
    assert client.completions.create(model="org/chat", prompt="once", max_tokens=3).choices[0].text
    response = client.responses.create(model="org/chat", input="hello", max_output_tokens=4)
    assert response.output_text
    with client.responses.stream(model="org/chat", input="hello", max_output_tokens=4) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        assert "".join(deltas) == response.output_text


def test_a_tool_is_called_and_its_result_is_spoken_of(client):
    asked = client.chat.completions.create(model="talk", messages=HI, tools=[TOOL])
    message = asked.choices[0].message
    (call,) = message.tool_calls
    assert asked.choices[0].finish_reason == "tool_calls"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", CALLED_WITH)
    result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    said = client.chat.completions.create(
        model="talk", messages=[*HI, message, result], tools=[TOOL], max_tokens=3
    )  # fmt: skip
    assert said.choices[0].message.content
    assert said.choices[0].message.tool_calls is None


def test_the_pieces_of_a_streamed_call(client):
    with client.chat.completions.stream(model="talk", messages=HI, tools=[TOOL]) as stream:
        events = [event.type for event in stream]
        (call,) = stream.get_final_completion().choices[0].message.tool_calls
    assert events.count("tool_calls.function.arguments.delta") > 3
    assert json.loads(call.function.arguments) == CALLED_WITH


def test_embeddings_come_in_base64_unless_numbers_are_wanted(client):
    packed = client.embeddings.create(model="org/embed", input=["one", "two"])
    plain = client.embeddings.create(model="org/embed", input=["one", "two"], encoding_format="float")
    assert [len(each.embedding) for each in packed.data] == [64, 64]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, rel=1e-6)


def test_models(client):
    assert [each.id for each in client.models.list()] == ["org/chat", "talk", "org/embed", "org/other", "org/rerank"]
    assert client.models.retrieve("talk").id == "talk"


def test_errors_are_of_their_own_kinds(client):
    with pytest.raises(openai.NotFoundError, match=r"There is no model 'org/chta'.*Nearest: org/chat"):
        client.chat.completions.create(model="org/chta", messages=HI)
    with pytest.raises(openai.BadRequestError, match="max_tokens must be at least 1"):
        client.chat.completions.create(model="talk", messages=HI, max_tokens=0)
    with pytest.raises(openai.BadRequestError, match='"auto" tool choice requires --enable-auto-tool-choice'):
        client.chat.completions.create(model="org/other", messages=HI, tools=[TOOL])


def test_a_stream_that_is_left_ends_at_the_engine_too(client, server, idle):
    with client.chat.completions.create(model="talk", messages=HI, max_tokens=4000, stream=True) as stream:
        for _ in range(3):
            next(stream)
        assert server.ps()["org/chat"]["in_flight"] == 1
    idle("org/chat")


def test_a_task_that_is_cancelled_ends_at_the_engine_too(server, idle):
    async def work(client):
        begun = asyncio.Event()

        async def read():
            async for _ in await client.chat.completions.create(
                model="talk", messages=HI, max_tokens=4000, stream=True
            ):  # fmt: skip
                begun.set()

        reading = asyncio.create_task(read())
        await asyncio.wait_for(begun.wait(), 20)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    run(server, work)
    idle("org/chat")


def test_many_at_once_with_threads(client):
    def ask(number):
        messages = [{"role": "user", "content": f"question {number}"}]
        model = "talk" if number % 2 else "org/other"
        stream = client.chat.completions.create(model=model, messages=messages, max_tokens=4, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    first = at_once(ask)
    assert len(set(first)) > AT_ONCE / 2
    assert first[:8] == [ask(number) for number in range(8)]


def test_many_at_once_with_tasks(server):
    async def work(client):
        async def ask(number):
            messages = [{"role": "user", "content": f"question {number}"}]
            return await client.chat.completions.create(model="talk", messages=messages, max_tokens=4)

        return await asyncio.gather(*map(ask, range(AT_ONCE)))

    answers = run(server, work)
    assert [answer.usage.completion_tokens for answer in answers] == [4] * AT_ONCE
