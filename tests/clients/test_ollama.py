"""The `ollama` package, as its users write it."""

import asyncio
import base64

import ollama
import pytest

from tests.clients.conftest import AT_ONCE, CALLED_WITH, WEATHER, at_once
from tests.waiting import wait_until

HI = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": WEATHER}}
SHORT = {"num_predict": 6, "temperature": 0, "num_ctx": 512}


@pytest.fixture(scope="module")
def client(server):
    return ollama.Client(host=server.url)


def test_a_chat_whole_and_streamed(client):
    whole = client.chat("talk", HI, options=SHORT)
    assert (whole.model, whole.done, whole.done_reason) == ("talk", True, "length")
    assert (whole.eval_count, whole.prompt_eval_count > 0) == (6, True)
    assert whole.total_duration >= whole.prompt_eval_duration + whole.eval_duration > 0
    parts = list(client.chat("talk:latest", HI, options=SHORT, stream=True))
    assert "".join(part.message.content for part in parts) == whole.message.content
    assert len(parts) == 7
    assert [part.done for part in parts] == [False] * 6 + [True]
    assert parts[-1].eval_count == 6


def test_a_prompt_whole_and_streamed(client):
    whole = client.generate("org/chat", "hello", system="be brief", options=SHORT)
    parts = list(client.generate("org/chat", "hello", system="be brief", options=SHORT, stream=True))
    assert "".join(part.response for part in parts) == whole.response
    assert whole.response
    assert client.generate("org/chat", "[INST] hello", raw=True, options=SHORT).eval_count == 6
    assert client.generate("org/chat", "hello", options={"stop": whole.response.split()[0]}).done_reason == "stop"


@pytest.mark.parametrize("streamed", [True, False])
def test_a_tool_is_called_and_its_result_is_spoken_of(client, streamed):
    answers = client.chat("talk", HI, tools=[TOOL], stream=streamed)
    parts = list(answers) if streamed else [answers]
    (call,) = [call for part in parts for call in part.message.tool_calls or ()]
    assert (call.function.name, call.function.arguments) == ("weather", CALLED_WITH)
    assert parts[-1].done_reason == "stop"
    history = [*HI, *(part.message for part in parts), {"role": "tool", "tool_name": "weather", "content": "rain"}]
    said = client.chat("talk", history, tools=[TOOL], options=SHORT)
    assert said.message.content
    assert not said.message.tool_calls


def test_embeddings_new_and_old(client):
    several = client.embed("org/embed", ["one", "two"])
    assert [len(each) for each in several.embeddings] == [64, 64]
    assert several.prompt_eval_count > 0
    assert client.embed("org/embed", "one").embeddings[0] == several.embeddings[0]
    assert client.embeddings("org/embed", "one").embedding == several.embeddings[0]
    assert client.embed("org/embed", "x" * 50_000).prompt_eval_count == 4096  # cut to what the model takes
    with pytest.raises(ollama.ResponseError, match="maximum context length"):
        client.embed("org/embed", "x" * 50_000, truncate=False)


def test_what_there_is_what_is_awake_and_what_it_is(client):
    assert [each.model for each in client.list().models] == ["org/chat", "talk", "org/embed", "org/other", "org/rerank"]
    client.chat("talk", HI, options=SHORT)
    awake = {each.model: each for each in client.ps().models}
    assert awake["org/chat"].size_vram == 4 << 30
    assert awake["org/chat"].expires_at is not None
    shown = client.show("talk")
    assert (shown.capabilities, shown.details.format) == (["completion", "tools"], "safetensors")
    assert client.show("org/embed").capabilities == ["embedding"]


def test_a_model_is_loaded_and_let_go_by_asking_for_nothing(client, server):
    def becomes(*phases):
        wait_until(lambda: server.phases()["org/other"] in phases, what=f"org/other to be {' or '.join(phases)}")

    assert client.generate("org/other").done_reason == "load"
    becomes("Ready")
    assert client.generate("org/other", keep_alive=0).done_reason == "unload"
    becomes("Asleep", "Stopped")
    assert client.chat("org/other", messages=[]).done_reason == "load"
    becomes("Ready")


@pytest.mark.parametrize("more", [{"format": "json"}, {"format": WEATHER}, {"think": False}, {"think": True},
                                  {"keep_alive": "10m"}, {"keep_alive": -1}])  # fmt: skip
def test_what_else_may_be_said(client, more):
    assert client.chat("talk", HI, options=SHORT, **more).eval_count == 6


def test_a_picture(client):
    message = {"role": "user", "content": "what is it?", "images": [base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()]}
    assert client.chat("talk", [message], options=SHORT).eval_count == 6


def test_errors_have_their_status_and_one_sentence(client):
    with pytest.raises(ollama.ResponseError) as unknown:
        client.chat("llama3", HI)
    assert (unknown.value.status_code, unknown.value.error) == (404, "model 'llama3' not found")
    with pytest.raises(ollama.ResponseError) as unknown:
        list(client.generate("llama3:8b", "x", stream=True))
    assert (unknown.value.status_code, unknown.value.error) == (404, "model 'llama3:8b' not found")
    with pytest.raises(ollama.ResponseError, match="vllama makes no models") as refused:
        client.create("mine", from_="talk")
    assert refused.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="no name of the Hugging Face hub"):
        client.pull("llama3:8b")
    with pytest.raises(ollama.ResponseError, match='"auto" tool choice requires'):
        client.chat("org/other", HI, tools=[TOOL])


def test_a_stream_that_is_left_ends_at_the_engine_too(client, server, idle):
    parts = client.chat("talk", HI, options={"num_predict": 4000}, stream=True)
    for _ in range(3):
        next(parts)
    assert server.ps()["org/chat"]["in_flight"] == 1
    parts.close()
    idle("org/chat")


def test_many_at_once_with_threads(client):
    def ask(number):
        parts = client.generate(("talk", "org/other")[number % 2], f"question {number}", options=SHORT, stream=True)
        return "".join(part.response for part in parts)

    first = at_once(ask)
    assert len(set(first)) > AT_ONCE / 2
    assert first[:8] == [ask(number) for number in range(8)]


def test_many_at_once_with_tasks(server):
    async def ask(client, number):
        parts = await client.chat(
            "talk", [{"role": "user", "content": f"question {number}"}], options=SHORT, stream=True
        )
        return [part async for part in parts][-1].eval_count

    async def work():
        client = ollama.AsyncClient(host=server.url)
        return await asyncio.gather(*(ask(client, number) for number in range(AT_ONCE)))

    assert asyncio.run(work()) == [6] * AT_ONCE
