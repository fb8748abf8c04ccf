"""What a model is for: guessed from its files, as vLLM goes by the class names in config.json, until vLLM has told."""

import enum
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vllama.engine.files import read_json
from vllama.engine.tasks import CLASSIFIES, EMBEDS, GENERATES, LISTENS, POOLS, TRANSCRIBES


class Task(enum.StrEnum):
    CHAT = "chat"
    EMBEDDING = "embedding"
    RERANK = "rerank"
    CLASSIFY = "classify"
    AUDIO = "audio"  # speech to text


_CHATS = ("ForCausalLM", "ForConditionalGeneration", "ChatModel", "LMHeadModel", "ChatGLMModel")
_RANKS = ("ForRanking", "Reranker", "ForRerank")
_EMBEDS = ("ForTextEncoding", "ForMaskedLM", "Model")
_JUDGES = (
    "ForSequenceClassification", "ForTokenClassification", "ForAudioClassification", "ForImageClassification",
    "ForVideoClassification", "ClassificationModel", "ForRewardModel", "ForRewardModeling", "ForProcessRewardModel",
    "RewardModel",
)  # fmt: skip
_LISTENS = ("Whisper", "SpeechSeq2Seq", "ASR", "Asr")
_LOOKS_ONLY = ("ForAudioClassification", "ForImageClassification", "ForVideoClassification")
_GEOSPATIAL = ("Terratorch", "Prithvi")


def task_of(model: str, directory: Path | None) -> Task:
    """A guess, from the name and the files as far as there are some."""
    name = model.lower()
    config = {} if directory is None else read_json(directory / "config.json") or {}
    classes = classes_of(config)
    if any(part in each for each in classes for part in _LISTENS):
        return Task.AUDIO
    if "rerank" in name or "ranker" in name or _any_ends(classes, _RANKS):
        return Task.RERANK
    if _any_ends(classes, _JUDGES):
        # one number per pair of texts is a rank; transformers takes two labels where none are said
        one_label = _any_ends(classes, ("ForSequenceClassification",)) and _labels(config) == 1
        return Task.RERANK if one_label else Task.CLASSIFY
    if "embed" in name or (directory is not None and (directory / "modules.json").exists()):
        return Task.EMBEDDING
    return Task.EMBEDDING if _any_ends(classes, _EMBEDS) and not _any_ends(classes, _CHATS) else Task.CHAT


def task_from(tasks: Collection[str], guess: Task) -> Task:
    """What vLLM said the model can do, in its words, as one of ours; `guess` where that leaves a choice."""
    said = frozenset(tasks)
    if said & GENERATES:
        return Task.CHAT
    if said & (TRANSCRIBES | LISTENS):
        return Task.AUDIO
    if said & CLASSIFIES:
        return guess if guess in {Task.RERANK, Task.CLASSIFY} else Task.CLASSIFY
    if said & (EMBEDS | {"token_embed"}):
        return Task.EMBEDDING
    return Task.CLASSIFY if said & (POOLS - {"plugin"}) else guess


def wants_tokenizer(config: Mapping[str, Any]) -> bool:
    """Models that read no text bring none."""
    classes = classes_of(config)
    return not (_any_ends(classes, _LOOKS_ONLY) or any(each.startswith(_GEOSPATIAL) for each in classes))


def classes_of(config: Mapping[str, Any]) -> list[str]:
    architectures = config.get("architectures")
    return [str(each) for each in architectures] if isinstance(architectures, list) else []


def _any_ends(classes: Collection[str], endings: tuple[str, ...]) -> bool:
    return any(each.endswith(endings) for each in classes)


def _labels(config: Mapping[str, Any]) -> int:
    labels, count = config.get("id2label"), config.get("num_labels")
    if isinstance(labels, dict) and labels:
        return len(labels)
    return count if isinstance(count, int) and not isinstance(count, bool) else 2
