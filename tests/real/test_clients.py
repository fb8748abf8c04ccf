"""The packages that people call vllama with, against real vLLM behind it."""

import asyncio
import json

import anthropic
import ollama
import openai
import pytest

from tests.waiting import wait_until
from tests.whole.server import serve
from vllama.domain.units import GIB
from vllama.runtime.local import host

ROOM_BYTES = 4 * GIB + GIB // 5
MODELS = """
defaults:
  memory: 2GiB
  max_model_len: 1024
  enforce_eager: true
  extra_args: {{distributed-executor-backend: uni}}
  env: {{VLLM_ENABLE_V1_MULTIPROCESSING: "0"}}
models:
  tiny/chat:
    aliases: [small]
    extra_args: {{enable-auto-tool-choice: true, tool-call-parser: hermes, distributed-executor-backend: uni}}
  tiny/embed: {{max_model_len: 512}}
policy: {{reserve: {reserve}}}
"""
# `strict`, a forced choice and no randomness: even a model of random numbers then writes a call that can be read.
SCHEMA = {
    "type": "object", "properties": {"unit": {"type": "string", "enum": ["c", "f"]}}, "required": ["unit"],
    "additionalProperties": False,
}  # fmt: skip
FUNCTION = {"name": "weather", "strict": True, "parameters": SCHEMA}
HI = [{"role": "user", "content": "weather?"}]
SHORT = {"num_predict": 8, "temperature": 0}


@pytest.fixture(scope="module")
def server(real_vllm, tmp_path_factory):
    reserve = host.total_bytes() - host.used_bytes() - ROOM_BYTES
    if reserve < 0:
        pytest.skip(f"needs {ROOM_BYTES / GIB:.1f} GiB of free memory")
    started = serve(
        tmp_path_factory.mktemp("clients") / "config", MODELS.format(reserve=reserve),
        VLLAMA_VLLM=str(real_vllm.vllm), HF_HOME=str(real_vllm.hf_home), HF_HUB_OFFLINE="1",
    )  # fmt: skip
    yield started
    started.close()


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=300, max_retries=0)


@pytest.fixture(scope="module")
def llama(server):
    return ollama.Client(host=server.url, timeout=300)


def test_a_model_is_loaded_by_asking_for_nothing(llama, server):
    assert llama.generate("small").done_reason == "load"
    assert server.phases()["tiny/chat"] == "Ready"
    (awake,) = llama.ps().models
    assert (awake.model, awake.details.family, awake.context_length) == ("tiny/chat", "qwen3", 1024)


def test_ollama(llama):
    whole = llama.chat("small", HI, options=SHORT)
    parts = list(llama.chat("small:latest", HI, options=SHORT, stream=True))
    assert "".join(part.message.content for part in parts) == whole.message.content
    assert (whole.done_reason, whole.eval_count, parts[-1].eval_count) == ("length", 8, 8)
    assert whole.total_duration >= whole.prompt_eval_duration + whole.eval_duration
    assert llama.generate("small", "weather?", options=SHORT).response == whole.message.content
    assert llama.generate("small", "weather?", raw=True, options=SHORT).eval_count == 8
    text = whole.message.content
    stopped = llama.chat("small", HI, options=SHORT | {"stop": [text[4]]})
    assert (stopped.done_reason, stopped.message.content) == ("stop", text[: text.index(text[4])])


def test_ollama_with_all_that_may_be_said(llama):
    options = {"num_predict": 40, "temperature": 0.5, "seed": 1, "top_p": 0.9, "top_k": 20, "min_p": 0.01,
               "repeat_penalty": 1.1, "presence_penalty": 0.1, "frequency_penalty": 0.1, "num_ctx": 64}  # fmt: skip
    as_json = llama.chat("small", HI, options=options, format=SCHEMA, think=False, keep_alive="10m", logprobs=True)
    assert as_json.message.content.startswith("{")
    assert len(as_json.logprobs) == as_json.eval_count
    call = {"function": {"name": "weather", "arguments": {"unit": "c"}}}
    history = [*HI, {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [call]},
               {"role": "tool", "tool_name": "weather", "content": "rain"}]  # fmt: skip
    assert (
        llama.chat("small", history, tools=[{"type": "function", "function": FUNCTION}], options=SHORT).eval_count == 8
    )
    with pytest.raises(ollama.ResponseError, match="not a multimodal model"):
        llama.chat("small", [{"role": "user", "content": "x", "images": ["iVBORw0KGgo="]}])


def test_openai(client):
    asked = {"model": "small", "messages": HI, "temperature": 0}
    whole = client.chat.completions.create(**asked, max_tokens=8)
    chunks = list(client.chat.completions.create(**asked, max_tokens=8, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    tools = {"tools": [{"type": "function", "function": FUNCTION}], "max_tokens": 300}
    forced = {"tool_choice": {"type": "function", "function": {"name": "weather"}}}
    (call,) = client.chat.completions.create(**asked, **tools, **forced).choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"unit": "c"}


def test_anthropic(server):
    client = anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=300)
    asked = {"model": "small", "max_tokens": 8, "messages": HI, "extra_body": {"temperature": 0}}
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        assert "".join(stream.text_stream) == whole.content[0].text
    tools = [{"name": "weather", "strict": True, "input_schema": SCHEMA}]
    used = client.messages.create(
        **asked | {"max_tokens": 300, "tools": tools, "tool_choice": {"type": "tool", "name": "weather"}}
    )  # fmt: skip
    assert (used.stop_reason, used.content[0].input) == ("tool_use", {"unit": "c"})
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**asked | {"model": "claude-sonnet"})


def test_a_stream_that_is_left_ends_at_the_engine_too(llama, server):
    parts = llama.chat("small", HI, options={"num_predict": 900}, stream=True)
    next(parts)
    assert server.ps()["tiny/chat"]["in_flight"] == 1
    parts.close()

    def idle() -> bool:
        status = server.ps()["tiny/chat"]
        metrics = server.http.get(f"http://127.0.0.1:{status['port']}/metrics").text
        running = next(line for line in metrics.splitlines() if line.startswith("vllm:num_requests_running"))
        return status["in_flight"] == 0 and float(running.rpartition(" ")[2]) == 0

    wait_until(idle, what="the engine to stop generating")
    aborted = 'finished_reason="abort"'
    metrics = server.http.get(f"http://127.0.0.1:{server.ps()['tiny/chat']['port']}/metrics").text
    assert any(aborted in line and not line.endswith(" 0.0") for line in metrics.splitlines())


def test_many_at_once(server):
    async def ask(client, number):
        parts = await client.chat("small", [{"role": "user", "content": str(number)}], options=SHORT, stream=True)
        return [part async for part in parts][-1].eval_count

    async def work():
        client = ollama.AsyncClient(host=server.url, timeout=300)
        return await asyncio.gather(*(ask(client, number) for number in range(32)))

    assert asyncio.run(work()) == [8] * 32


def test_embeddings(client, llama):
    packed = client.embeddings.create(model="tiny/embed", input=["one", "two"])
    found = llama.embed("tiny/embed", ["one", "two"]).embeddings
    for one, other in zip(packed.data, found, strict=True):
        assert one.embedding == pytest.approx(other, rel=1e-4, abs=1e-6)
    assert llama.embeddings("tiny/embed", "one").embedding == pytest.approx(found[0], rel=1e-4, abs=1e-6)
    assert llama.embed("tiny/embed", "x" * 2900).prompt_eval_count == 512
    assert llama.show("tiny/embed").capabilities == ["embedding"]
