"""The families of /metrics that a manager may read: their types, labels and what moves them."""

import re

import httpx
import pytest

from tests.simulator.engines import streaming
from tests.waiting import wait_until

ENGINE = {"engine": "0"}
FAMILIES = {
    "vllm:num_requests_running": ("gauge", [{}]),
    "vllm:num_requests_waiting": ("gauge", [{}]),
    "vllm:kv_cache_usage_perc": ("gauge", [{}]),
    "vllm:engine_sleep_state": (
        "gauge",
        [{"sleep_state": state} for state in ("awake", "weights_offloaded", "discard_all")],
    ),
    "vllm:prompt_tokens_total": ("counter", [{}]),
    "vllm:generation_tokens_total": ("counter", [{}]),
    "vllm:request_success_total": (
        "counter",
        [{"finished_reason": reason} for reason in ("stop", "length", "abort", "error", "repetition")],
    ),
    "vllm:admission_rejections_total": (
        "counter",
        [{"reason": reason} for reason in ("max_num_queued_reqs", "max_num_queued_tokens")],
    ),
}
WITHOUT_ENGINE = {"vllm:admission_rejections_total"}


def families(answer: httpx.Response) -> dict[str, tuple[str, list[dict[str, str]]]]:
    """Name -> type and the labels of each sample, in their order."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", answer.text, re.MULTILINE))
    found: dict[str, tuple[str, list[dict[str, str]]]] = {}
    for name, labels in re.findall(r"^([a-zA-Z_:]+)\{(.*)\} \S+$", answer.text, re.MULTILINE):
        if name in kinds:
            found.setdefault(name, (kinds[name], []))[1].append(dict(re.findall(r'(\w+)="([^"]*)"', labels)))
    return found


@pytest.mark.parametrize(("engine", "model"), [("chat", "chat"), ("embedder", "embed"), ("reranker", "rerank")])
@pytest.mark.usefixtures("kind")
def test_families_and_labels(engine, model, request):
    answer = request.getfixturevalue(engine).http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = families(answer)
    for name, (kind, labels) in FAMILIES.items():
        shared = {"model_name": model} if name in WITHOUT_ENGINE else ENGINE | {"model_name": model}
        expected = [dict(sorted((shared | more).items())) for more in labels]
        assert found[name][0] == kind
        assert [list(sample.items()) for sample in found[name][1]] == [list(each.items()) for each in expected], name


def test_what_is_finished_is_counted(chat):
    def read() -> tuple[float, ...]:
        return (
            chat.metric("vllm:prompt_tokens_total"),
            chat.metric("vllm:generation_tokens_total"),
            chat.metric("vllm:request_success_total", 'finished_reason="length"'),
        )

    prompt, generated, finished = read()
    usage = chat.chat(max_tokens=5).json()["usage"]
    expected = prompt + usage["prompt_tokens"], generated + 5, finished + 1
    wait_until(lambda: read() == expected, what="the request is counted")


def test_a_client_that_leaves_is_counted_as_aborted(chat):
    def aborted() -> float:
        return chat.metric("vllm:request_success_total", 'finished_reason="abort"')

    before = aborted()
    with streaming(chat, max_tokens=3900):
        wait_until(lambda: chat.metric("vllm:num_requests_running") == 1, what="it runs")
        assert chat.metric("vllm:kv_cache_usage_perc") > 0
    wait_until(lambda: chat.metric("vllm:num_requests_running") == 0, what="nothing runs")
    wait_until(lambda: chat.http.get("/load").json() == {"server_load": 0}, what="nothing is under way")
    assert aborted() >= before
