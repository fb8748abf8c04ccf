"""Models as Ollama's lists have them."""

import pytest

from vllama.domain.spec import ModelSpec
from vllama.domain.status import ModelStatus, Phase
from vllama.engine.about import About
from vllama.engine.kinds import Task
from vllama.gateway.ollama.listing import FOREVER, listed, loaded, shown

FILES = About(
    task=Task.CHAT, digest="d" * 64, family="qwen3", quantization="BF16", parameters=7_600_000_000, size_bytes=15,
    modified_at=1e9, max_model_len=40960, chat_template="{{ }}", config={"hidden_size": 64, "num_hidden_layers": 2},
)  # fmt: skip
NOTHING = About(task=Task.EMBEDDING, digest="e" * 64)
SPEC = ModelSpec(model="org/M")


def status(**more) -> ModelStatus:
    return ModelStatus(model="org/M", phase=Phase.READY, reason="r", message="m", declared=True, **more)


def test_every_name_is_an_entry():
    found = listed(status(aliases=("m",), adapters=("tuned",)), FILES, since=0)
    assert [each["model"] for each in found] == [each["name"] for each in found] == ["org/M", "m", "tuned"]
    assert found[0] == {
        "name": "org/M", "model": "org/M", "modified_at": "2001-09-09T01:46:40.000000Z", "size": 15,
        "digest": "d" * 64,
        "details": {
            "parent_model": "", "format": "safetensors", "family": "qwen3", "families": ["qwen3"],
            "parameter_size": "7.6B", "quantization_level": "BF16",
        },
    }  # fmt: skip


def test_what_has_no_files_has_times_all_the_same():
    (found,) = listed(status(), NOTHING, since=1e9)
    assert found["modified_at"].startswith("2001-09-09")
    assert (found["size"], found["details"]["families"]) == (0, [])


@pytest.mark.parametrize(
    ("more", "idle_s", "expires"),
    [
        ({"last_used": 1e9}, 60, "2001-09-09T01:47:40.000000Z"),
        ({"last_used": 1e9 - 60, "in_flight": 1}, 60, "2001-09-09T01:47:40.000000Z"),
        ({}, 60, "2001-09-09T01:47:40.000000Z"),
        ({"last_used": 1e9}, None, FOREVER),
    ],
)
def test_when_it_will_sleep(more, idle_s, expires):
    found = loaded(status(memory_bytes=10, devices=(0, 1), **more), SPEC, FILES, idle_s=idle_s, now=1e9)
    assert (found["expires_at"], found["size"], found["size_vram"]) == (expires, 20, 20)
    assert found["context_length"] == 40960


def test_what_is_pinned_stays():
    found = loaded(status(), ModelSpec(model="org/M", pin=True), FILES, idle_s=60, now=1e9)
    assert found["expires_at"] == FOREVER


def test_a_model_shown():
    found = shown(SPEC, FILES, None, since=0)
    assert found["model_info"] == {
        "general.architecture": "qwen3", "general.parameter_count": 7_600_000_000, "qwen3.context_length": 40960,
        "qwen3.embedding_length": 64, "qwen3.block_count": 2,
    }  # fmt: skip
    assert (found["capabilities"], found["template"]) == (["completion"], "{{ }}")
    assert "FROM org/M" in found["modelfile"]


@pytest.mark.parametrize(
    ("files", "tasks", "expected"),
    [
        (NOTHING, None, ["embedding"]),
        (NOTHING, {"generate"}, ["completion"]),
        (FILES, {"token_embed", "embed"}, ["embedding"]),
        (About(task=Task.RERANK, digest=""), None, []),
        (
            About(task=Task.CHAT, digest="", calls_tools=True, sees=True, thinks=True),
            {"generate"},
            ["completion", "tools", "vision", "thinking"],
        ),
    ],
)
def test_capabilities_are_what_vllm_said_or_else_a_guess(files, tasks, expected):
    assert shown(SPEC, files, tasks, since=0)["capabilities"] == expected
