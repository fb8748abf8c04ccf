"""Whether a directory is a whole model: its config, its tokenizer, and every file of weights that its index names.

Never raises on odd files. Blocks on the file system.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from vllama.engine.files import read_json, read_list, weight_files
from vllama.engine.kinds import wants_tokenizer

_CONFIGS = ("config.json", "params.json")  # transformers', Mistral's
_TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer.model.v*",
    "tekken.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "*.spm",
    "sentencepiece.bpe.model",
    "*.tiktoken",
    "tokenization_*.py",  # its own, with whatever files that reads
)


def missing_files(directory: Path) -> tuple[str, ...]:
    """Names of what keeps the model from being whole; empty: it can be served."""
    return tuple(dict.fromkeys(_missing(directory)))


def described(directory: Path) -> str:
    """What else this is, for a person; empty: a model, or the beginnings of one."""
    if (directory / "config.json").exists():
        return ""
    if (directory / "adapter_config.json").exists():
        return "a LoRA adapter: name it under `lora` of its base model"
    if (directory / "model_index.json").exists():
        return "a pipeline of diffusers, which vLLM does not serve"
    if any(directory.glob("*.gguf")):
        return "GGUF files, which vllama does not serve"
    return ""


def _missing(directory: Path) -> Iterator[str]:
    configs = [config for name in _CONFIGS if (config := read_json(directory / name)) is not None]
    if not configs:
        yield "config.json"
    if not _has_tokenizer(directory) and wants_tokenizer(configs[0] if configs else {}):
        yield "tokenizer.json"
    weights = weight_files(directory)
    yield from weights.missing
    if not weights.present and not weights.missing:
        yield "*.safetensors"
    yield from _missing_modules(directory)
    yield from _dangling(directory)


def _has_tokenizer(directory: Path) -> bool:
    return any(entry.is_file() for name in _TOKENIZERS for entry in directory.glob(name))


def _missing_modules(directory: Path) -> Iterator[str]:
    """An embedding model without the config of its pooling would answer, and wrongly."""
    for module in read_list(directory / "modules.json"):
        match module:
            case {"type": str(kind), "path": str(path)} if path and kind.endswith((".Pooling", ".Dense")):
                config = Path(path) / "config.json"
                if not (directory / config).is_file():
                    yield str(config)


def _dangling(directory: Path) -> Iterator[str]:
    """A link without its blob is a download that was cut short, or cleaned away."""
    for folder, _, files in os.walk(directory):
        for name in files:
            path = Path(folder, name)
            if path.is_symlink() and not path.exists():
                yield str(path.relative_to(directory))
