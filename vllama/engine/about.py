"""What the files of a model tell about it, for people and for clients that list models. Blocks on the file system."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vllama.domain.spec import ModelSpec
from vllama.engine.cache import find
from vllama.engine.files import read_json, weight_files
from vllama.engine.flags import flag_name
from vllama.engine.kinds import Task, task_of

_TEMPLATE_BYTES = 1 << 20
_SIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Empty and None: not known. `parameters` is counted from the weights' bytes, unless they are quantised.

    `quantization` as in `BF16` or `AWQ`; `digest`: 64 hex digits that change with the model's files; `modified_at`:
    seconds of the wall clock; `config`: of the text model, where a model has several.
    """

    task: Task
    digest: str
    family: str = ""
    quantization: str = ""
    parameters: int | None = None
    size_bytes: int = 0
    modified_at: float | None = None
    max_model_len: int | None = None
    chat_template: str = ""
    licence: str = ""
    sees: bool = False
    calls_tools: bool = False
    thinks: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)


def about(spec: ModelSpec, hub: Path | None) -> About:
    """Never raises. `hub` None: nothing is looked up in any cache."""
    said = {flag_name(name): value for name, value in spec.launch.said}
    length = said.get("max-model-len")
    calls_tools, thinks = "tool-call-parser" in said, "reasoning-parser" in said
    declared = length if isinstance(length, int) and not isinstance(length, bool) and length > 0 else None
    directory = _directory(spec, hub)
    if directory is None:
        return About(
            task=task_of(spec.model, None), digest=_digest(spec.model), max_model_len=declared, calls_tools=calls_tools,
            thinks=thinks,
        )  # fmt: skip
    config = read_json(directory / "config.json") or {}
    text = config.get("text_config")
    text = text if isinstance(text, dict) else config
    weights = weight_files(directory).total_bytes
    quantization, parameters = _quantization(config, text, weights)
    return About(
        task=task_of(spec.model, directory),
        digest=_digest(f"{spec.model}@{directory}"),
        family=str(config.get("model_type") or ""),
        quantization=quantization,
        parameters=parameters,
        size_bytes=weights,
        modified_at=_modified_at(directory / "config.json"),
        max_model_len=declared or _count(text, "max_position_embeddings", "n_positions", "seq_length"),
        chat_template=_chat_template(directory),
        licence=_text(directory / "LICENSE"),
        sees="vision_config" in config,
        calls_tools=calls_tools,
        thinks=thinks,
        config=text,
    )


def _directory(spec: ModelSpec, hub: Path | None) -> Path | None:
    if spec.launch.path is not None:
        return Path(spec.launch.path)
    cached = None if hub is None else find(hub, spec.model)
    return None if cached is None else cached.directory


def _quantization(config: Mapping[str, Any], text: Mapping[str, Any], weights_bytes: int) -> tuple[str, int | None]:
    declared = config.get("quantization_config")
    if isinstance(declared, dict) and declared.get("quant_method"):
        return str(declared["quant_method"]).upper(), None
    dtype = str(text.get("dtype") or text.get("torch_dtype") or config.get("dtype") or config.get("torch_dtype") or "")
    short = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}.get(dtype, dtype.upper())
    return short, weights_bytes // _SIZES[dtype] if dtype in _SIZES and weights_bytes else None


def _chat_template(directory: Path) -> str:
    if template := _text(directory / "chat_template.jinja"):
        return template
    in_config = (read_json(directory / "tokenizer_config.json") or {}).get("chat_template")
    return in_config if isinstance(in_config, str) else ""


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_TEMPLATE_BYTES).decode(errors="replace")
    except OSError:
        return ""


def _modified_at(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _count(config: Mapping[str, Any], *names: str) -> int | None:
    values = (config.get(name) for name in names)
    return next((v for v in values if isinstance(v, int) and not isinstance(v, bool) and v > 0), None)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
