"""The command line of an engine, as another tool keeps it: which program it runs, and a `vllm serve` as settings."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from vllama.cli.assignment import scalar
from vllama.cli.imports.macros import PORT
from vllama.controller.manifest.settings import SETTINGS, VllmSettings
from vllama.engine.flags import refuse_owned
from vllama.engine.told import KEYS, LOOKED_AFTER, lora_module, read_flags

_LLAMA_CPP = ("llama-server", "llama.cpp", "llama-box", "ik_llama", "koboldcpp", "server-cuda", "ollama")
_IMAGE = re.compile(r"[\w.:-]+(?:/[\w.-]+)*/[\w.-]*vllm[\w.-]*(?::[\w.-]+)?(?:@sha256:\w+)?|vllm(?:-openai)?:[\w.-]+")


class NotVllm(Exception):
    """The command runs no vLLM that vllama could run; the text says what it runs."""


@dataclass(slots=True)
class Engine:
    """What `vllm serve` was told. `refused`: (what, why) of what cannot be carried over."""

    model: str
    vllm: str | None = None
    names: list[str] = field(default_factory=list)
    entry: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    refused: list[tuple[str, str]] = field(default_factory=list)


def read_command(text: str) -> Engine:
    """`text`: a command with its macros filled in; lines that begin with # are comments. Raises NotVllm."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if not line.lstrip().startswith("#")]
    try:
        words = shlex.split(" ".join(lines))
    except ValueError as error:
        raise NotVllm(f"the command cannot be read: {error}") from None
    return _of_words(words)


def _of_words(words: Sequence[str]) -> Engine:
    env, words = _without_wrappers(list(words))
    if not words:
        raise NotVllm("there is no command")
    program = PurePath(words[0]).name
    if program in {"docker", "podman"} and len(words) > 1:
        engine = _in_container(words)
    elif program == "vllm" and words[1:2] == ["serve"]:
        engine = _serve(words[2:])
        engine.vllm = words[0] if "/" in words[0] else None
    elif program.startswith("python") and words[1:3] == ["-m", "vllm.entrypoints.openai.api_server"]:
        engine = _serve(words[3:])
        engine.vllm = str(PurePath(words[0]).with_name("vllm")) if "/" in words[0] else None
    else:
        raise NotVllm(_other(words))
    engine.env = env | engine.env
    return engine


def _without_wrappers(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Without `env NAME=value`, `exec`, `nohup`, `uv run`, and without a shell around one command."""
    env: dict[str, str] = {}
    while words:
        if PurePath(words[0]).name == "env" or words[0] in {"exec", "nohup"}:
            words = words[1:]
        elif words[:2] == ["uv", "run"] or words[:1] == ["uvx"]:
            words = words[2 if words[0] == "uv" else 1 :]
        elif (pair := re.fullmatch(r"([A-Za-z_]\w*)=(.*)", words[0], re.DOTALL)) is not None:
            env[pair[1]], words = pair[2], words[1:]
        elif PurePath(words[0]).name in {"bash", "sh"} and len(words) > 2 and re.fullmatch(r"-[a-z]*c", words[1]):
            if re.search(r"[;&|<>`\n]|\$\(", words[2]):
                raise NotVllm("a shell script of several commands; take out the `vllm serve`, and import that")
            words = shlex.split(words[2])
        else:
            break
    return env, words


def _other(words: Sequence[str]) -> str:
    said = " ".join(words[:3])
    if any(part in word.lower() for word in words for part in _LLAMA_CPP) or any(w.endswith(".gguf") for w in words):
        return f"`{said} ...` is llama.cpp, and vLLM cannot run its GGUF files; the original weights it can"
    return f"`{said} ...` is no `vllm serve`"


def _in_container(words: Sequence[str]) -> Engine:
    """`docker run ... IMAGE FLAGS`: what follows an image of vLLM are flags of `vllm serve`."""
    at = next((number for number, word in enumerate(words) if number > 1 and _IMAGE.fullmatch(word)), None)
    if at is None:
        raise NotVllm(_other(words))
    rest = list(words[at + 1 :])
    engine = _serve(rest[2:] if rest[:2] == ["vllm", "serve"] else rest)
    for name, value in _pairs(words[2:at]):
        if name in {"-e", "--env"} and "=" in value:
            variable, _, said = value.partition("=")
            engine.env[variable] = said
        elif name in {"-v", "--volume"} and value.count(":"):
            outside, inside = value.split(":")[:2]
            if PurePath(engine.model).is_relative_to(inside):
                engine.model = str(PurePath(outside) / PurePath(engine.model).relative_to(inside))
        elif name == "--gpus" and (listed := re.search(r"device=([0-9,]+)", value)) is not None:
            engine.env.setdefault("CUDA_VISIBLE_DEVICES", listed[1])
    engine.refused.append(("the container", f"it ran in {words[at]}; here it runs with the vLLM of this machine"))
    return engine


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if equals and name.startswith("--"):
            yield name, value
        elif word.startswith("-") and number + 1 < len(words):
            yield word, words[number + 1]


def _serve(words: Sequence[str]) -> Engine:
    positional, flags = read_flags(words)
    named = [values[0] for name, values in flags if name in {"model", "model-tag"} and values]
    model = next(iter((*named, *positional)), None)
    if model is None:
        raise NotVllm("the command names no model")
    engine = Engine(model=model)
    for name, values in flags:
        _take(engine, name, values)
    return engine


def _take(engine: Engine, name: str, values: list[str]) -> None:
    if name in LOOKED_AFTER or name in {"model", "model-tag"}:
        return
    said = f"--{name} {' '.join(values)}".strip()
    if name == "served-model-name":
        engine.names += values
    elif name.startswith("-"):
        engine.refused.append((f"{name} {' '.join(values)}".strip(), "write the flag's long name under extra_args"))
    elif any(PORT in value for value in values):
        engine.refused.append((said, "the port is found when the engine starts"))
    elif name == "config" and len(values) == 1:
        engine.entry["config_file"] = values[0]
    elif name == "lora-modules":
        engine.entry["lora"] = dict(map(lora_module, values))
    elif name not in KEYS and (refusal := refuse_owned([(name, "")])) is not None:
        shown = "--api-key" if name == "api-key" else said
        engine.refused.append((shown, refusal.partition("here: ")[2].removesuffix(".")))
    elif (setting := name.replace("-", "_")) in SETTINGS:
        engine.entry[setting] = _setting(setting, values)
    elif (off := name.removeprefix("no-").replace("-", "_")) in SETTINGS and not values:
        engine.entry[off] = False
    else:
        engine.entry.setdefault("extra_args", {})[name] = _value(values)


def _setting(name: str, values: list[str]) -> Any:
    """As a number where the setting is one, else as text."""
    value = _value(values)
    try:
        VllmSettings.model_validate({name: value})
    except ValueError:
        return values[0] if len(values) == 1 else values
    return value


def _value(values: Sequence[str]) -> Any:
    if len(values) != 1:
        return [scalar(value) for value in values] or True
    return scalar(values[0])
