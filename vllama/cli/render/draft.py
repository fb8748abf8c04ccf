"""A models.yaml with comments, as `vllama init` writes it."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from vllama.cli.render.words import wrapped
from vllama.cli.suggest import Suggestion
from vllama.domain.units import GIB, format_bytes
from vllama.engine.kinds import Task

_HEAD = """\
# The models that vllama may run, and how. While a server runs, a change is applied as soon as it is saved.
# A mistake is shown with its line (also by `vllama validate`), and the last good version stays in force.
version: 1

# Holds for every model below, and for models of the model cache that are not declared here.
# defaults:
#   idle:
#     sleep_after: 30m       # a model that nobody used for this long goes to sleep; or: never
#     level: auto            # 1: weights to host memory, 2: weights dropped, 3: stopped, auto: what fits best
#     stop_after: never      # and after this long it stops altogether
"""
_TAIL = """
# policy:
#   only_declared: false     # true: models of the cache must stand here to be callable
#   reserve: 512MiB          # of every GPU, left free
"""
_EXAMPLE = """\
models: {}                   # none yet; fetch one with `vllama pull`, and write for example:
#  Qwen/Qwen3-0.6B:
#    aliases: [qwen]         # further names that clients may use
#    memory: 4GiB            # of each of its GPUs, when awake; without it: estimated, then measured
"""
_COLUMNS = 110
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)?")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafted:
    """One model of the draft. `size_bytes` on disk; `own_code`: it brings code that it may need."""

    model: str
    task: Task
    size_bytes: int
    suggestion: Suggestion
    own_code: bool = False


def draft(models: Sequence[Drafted], *, devices: str) -> str:
    """`devices` is what the sizes are for, in words."""
    said = f"Sizes are estimates for {devices}. A model without `memory` is measured once it has run."
    lines = wrapped(said, _COLUMNS, indent="# ")
    if not any(each.suggestion.memory_bytes is not None for each in models):
        lines.append(_EXAMPLE.rstrip())
    else:
        lines.append("models:")
    for each in models:
        lines += [*_model(each), ""]
    return "\n".join([_HEAD, *lines]).rstrip() + "\n" + _TAIL


def _model(each: Drafted) -> list[str]:
    found = each.suggestion
    head = f"  {_key(each.model)}:"
    about = f"# {each.task.value}, {format_bytes(each.size_bytes)} on disk"
    if found.memory_bytes is None:
        return wrapped(f"{each.model}: {each.task.value}; {found.why}.", _COLUMNS, indent="  # ")
    settings: list[tuple[str, str, str]] = []
    if each.task is Task.EMBEDDING:
        settings.append(("runner", "pooling", ""))
    if found.device_count > 1:
        settings.append(("tensor_parallel_size", str(found.device_count), "one engine across so many GPUs"))
    settings.append(("memory", _gib(found.memory_bytes), found.why))
    if found.max_model_len is not None:
        settings.append(("max_model_len", str(found.max_model_len), "its whole context would take more than is here"))
    lines = [_commented(head, about), *(_commented(f"    {key}: {value}", why) for key, value, why in settings)]
    if each.own_code:
        lines.append(
            "    # trust_remote_code: true   # it brings code of its own; say so if it needs that, and you trust it"
        )
    return lines


def _commented(text: str, why: str) -> str:
    if not why:
        return text
    return f"{text:<40} {why if why.startswith('#') else f'# {why}'}"


def _key(model: str) -> str:
    return model if _PLAIN.fullmatch(model) and model.lower() not in _WORDS else json.dumps(model, ensure_ascii=False)


def _gib(size: int) -> str:
    halves = size / GIB
    return f"{halves:g}GiB" if halves * 2 == int(halves * 2) else str(size)
