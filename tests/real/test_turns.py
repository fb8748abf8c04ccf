"""The whole path on real vLLM: an OpenAI client calls, engines start, make room for each other, and leave nothing."""

import openai
import pytest

from tests.waiting import wait_until
from tests.whole.server import serve
from vllama.domain.units import GIB
from vllama.runtime.local import host

ROOM_BYTES = 4 * GIB + GIB // 5  # one engine of 2.6 GiB fits, two do not
MODELS = """
defaults:
  memory: 2.6GiB
  max_model_len: 512
  enforce_eager: true
  extra_args: {{distributed-executor-backend: uni}}
  env: {{VLLM_ENABLE_V1_MULTIPROCESSING: "0"}}
models:
  tiny/chat: {{aliases: [small]}}
  tiny/chat-two: {{}}
  tiny/embed: {{}}
  tiny/rerank: {{}}
policy: {{reserve: {reserve}}}
"""


@pytest.fixture(scope="module")
def server(real_vllm, tmp_path_factory):
    reserve = host.total_bytes() - host.used_bytes() - ROOM_BYTES
    if reserve < 0:
        pytest.skip(f"needs {ROOM_BYTES / GIB:.1f} GiB of free memory")
    started = serve(
        tmp_path_factory.mktemp("real") / "config", MODELS.format(reserve=reserve),
        VLLAMA_VLLM=str(real_vllm.vllm), HF_HOME=str(real_vllm.hf_home), HF_HUB_OFFLINE="1",
    )  # fmt: skip
    yield started
    started.close()


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=300, max_retries=0)


def ask(client, model, **more):
    return client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "hello"}], max_tokens=8, **more
    )  # fmt: skip


def test_a_chat_plain_and_streamed(server, client):
    answer = ask(client, "tiny/chat")
    assert answer.model == "tiny/chat"
    assert answer.usage.completion_tokens == 8
    chunks = list(ask(client, "small", stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens == 8
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) >= 2
    assert server.phases()["tiny/chat"] == "Ready"


def test_models_that_do_not_fit_together_take_turns_and_every_call_is_answered(server, client):
    for model, other in (("tiny/chat-two", "tiny/chat"), ("tiny/chat", "tiny/chat-two")):
        assert ask(client, model).model == model
        phases = server.phases()
        assert (phases[model], phases[other]) == ("Ready", "Stopped")  # sleeping frees nothing on a CPU


def test_an_embedding(client):
    answer = client.embeddings.create(model="tiny/embed", input=["one", "two"], encoding_format="float")
    assert [len(each.embedding) for each in answer.data] == [64, 64]


def test_a_rerank(server):
    body = {"model": "tiny/rerank", "query": "a cat", "documents": ["a dog", "a cat", "a house"]}
    answer = server.http.post(f"{server.url}/v1/rerank", json=body, timeout=300)
    assert answer.status_code == 200, answer.text
    scores = [each["relevance_score"] for each in answer.json()["results"]]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 3


def test_a_task_that_the_model_does_not_have_is_refused_by_what_its_log_said(server):
    answer = server.http.post(f"{server.url}/v1/embeddings", json={"model": "tiny/rerank", "input": "x"}, timeout=300)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].endswith("the tasks of this one are: classify, token_classify.")


def test_after_sigterm_no_process_is_left(server):
    wait_until(server.engines, what="an engine to be there")
    assert server.terminate(deadline_s=60) == 0
    assert server.engines() == {}
