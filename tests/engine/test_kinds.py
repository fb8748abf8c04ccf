import json
from pathlib import Path

import pytest

from vllama.engine.kinds import Task, task_from, task_of

ONE = {"id2label": {"0": "LABEL_0"}}


@pytest.mark.parametrize(
    ("model", "config", "task"),
    [
        ("Qwen/Qwen3-8B", {"architectures": ["Qwen3ForCausalLM"]}, Task.CHAT),
        ("openai-community/gpt2", {"architectures": ["GPT2LMHeadModel"]}, Task.CHAT),
        ("OpenGVLab/InternVL3-8B", {"architectures": ["InternVLChatModel"]}, Task.CHAT),
        ("THUDM/chatglm3-6b", {"architectures": ["ChatGLMModel"]}, Task.CHAT),
        ("google/gemma-3-4b-it", {"architectures": ["Gemma3ForConditionalGeneration"]}, Task.CHAT),
        ("a/b", {"architectures": 3}, Task.CHAT),
        ("a/b", {}, Task.CHAT),
        ("Qwen/Qwen3-Embedding-0.6B", {"architectures": ["Qwen3ForCausalLM"]}, Task.EMBEDDING),
        ("BAAI/bge-m3", {"architectures": ["XLMRobertaModel"]}, Task.EMBEDDING),
        ("a/b", {"architectures": ["NomicBertForMaskedLM"]}, Task.EMBEDDING),
        ("BAAI/bge-reranker-v2-m3", {"architectures": ["XLMRobertaForSequenceClassification"]}, Task.RERANK),
        ("a/b", {"architectures": ["BertForSequenceClassification"], **ONE}, Task.RERANK),
        ("jinaai/jina-m0", {"architectures": ["JinaVLForRanking"]}, Task.RERANK),
        ("a/b", {"architectures": ["BertForSequenceClassification"]}, Task.CLASSIFY),
        ("a/b", {"architectures": ["BertForSequenceClassification"], "num_labels": 5}, Task.CLASSIFY),
        ("a/ner", {"architectures": ["BertForTokenClassification"], **ONE}, Task.CLASSIFY),
        ("a/b", {"architectures": ["InternLM2ForRewardModel"]}, Task.CLASSIFY),
        ("openai/whisper-large-v3", {"architectures": ["WhisperForConditionalGeneration"]}, Task.AUDIO),
        ("Qwen/Qwen3-ASR-0.6B", {"architectures": ["Qwen3ASRForConditionalGeneration"]}, Task.AUDIO),
    ],
)
def test_the_task_is_guessed(tmp_path: Path, model: str, config: dict[str, object], task: Task) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert task_of(model, tmp_path) is task


def test_what_sentence_transformers_made_embeds(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("[]")
    assert task_of("a/b", tmp_path) is Task.EMBEDDING


def test_without_files_the_name_must_do() -> None:
    assert [task_of(name, None) for name in ("a/x-embed", "a/x-reranker", "a/x")] == [
        Task.EMBEDDING, Task.RERANK, Task.CHAT,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "guess", "task"),
    [
        (["generate"], Task.EMBEDDING, Task.CHAT),
        (["generate", "transcription"], Task.AUDIO, Task.CHAT),
        (["transcription"], Task.CHAT, Task.AUDIO),
        (["realtime"], Task.CHAT, Task.AUDIO),
        (["token_embed", "embed"], Task.CHAT, Task.EMBEDDING),
        (["token_classify", "classify"], Task.RERANK, Task.RERANK),
        (["token_classify", "classify"], Task.CHAT, Task.CLASSIFY),
        (["token_classify"], Task.CHAT, Task.CLASSIFY),
        (["plugin"], Task.EMBEDDING, Task.EMBEDDING),
        ([], Task.RERANK, Task.RERANK),
        (["something new"], Task.CHAT, Task.CHAT),
    ],
)
def test_what_vllm_said_counts_more_than_the_guess(said: list[str], guess: Task, task: Task) -> None:
    assert task_from(said, guess) is task
