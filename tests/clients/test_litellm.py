"""LiteLLM, by each of the three names under which it may know vllama. Its import takes seconds, so few tests."""

import asyncio
import os

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would fetch a list of prices
litellm = pytest.importorskip("litellm")

pytestmark = pytest.mark.filterwarnings("ignore:.*ReadOnly")
HI = [{"role": "user", "content": "hello"}]
WAYS = {"openai": "/v1", "ollama_chat": "", "anthropic": ""}


@pytest.mark.parametrize("way", WAYS)
def test_a_chat_whole_and_streamed(server, way):
    asked = {"model": f"{way}/talk", "messages": HI, "api_base": server.url + WAYS[way], "api_key": "none"}
    whole = litellm.completion(**asked, max_tokens=6)
    assert whole.usage.completion_tokens == 6
    said = "".join(
        chunk.choices[0].delta.content or "" for chunk in litellm.completion(**asked, max_tokens=6, stream=True)
    )
    assert said == whole.choices[0].message.content

    async def work():
        parts = await litellm.acompletion(**asked, max_tokens=6, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in parts])

    assert asyncio.run(work()) == said


def test_embeddings(server):
    answer = litellm.embedding("openai/org/embed", ["one"], api_base=f"{server.url}/v1", api_key="none")
    assert len(answer.data[0]["embedding"]) == 64
    answer = litellm.embedding("ollama/org/embed", ["one"], api_base=server.url)
    assert len(answer.data[0]["embedding"]) == 64
