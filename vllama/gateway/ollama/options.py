"""Sampling options, `format` and `think`, in vLLM's words."""

from collections.abc import Mapping
from typing import Any

import msgspec

from vllama.gateway.ollama.messages import Untranslatable

# What is not here is about Ollama's own runner (num_ctx, num_gpu, mirostat, ...) and means nothing to vLLM.
_SAME = frozenset(("temperature", "top_p", "top_k", "min_p", "seed", "stop", "presence_penalty", "frequency_penalty"))
_RENAMED = {"repeat_penalty": "repetition_penalty"}
_LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def sampling(options: Mapping[str, msgspec.Raw] | None) -> dict[str, Any]:
    """Wrong values are left for the engine to refuse, which says it better."""
    found: dict[str, Any] = {}
    for name, raw in (options or {}).items():
        value = bytes(raw)
        if value == b"null":
            continue
        if name in _SAME or name in _RENAMED:
            found[_RENAMED.get(name, name)] = raw
        elif name == "num_predict" and not value.startswith((b"-", b"0")):  # 0 and less: as much as there is room for
            found["max_tokens"] = raw
    return found


def response_format(raw: msgspec.Raw) -> dict[str, Any]:
    """`format`: "json" or a JSON schema."""
    given = bytes(raw)
    if given in {b"null", b'""'}:
        return {}
    if given == b'"json"':
        return {"response_format": {"type": "json_object"}}
    if not given.startswith(b"{"):
        raise Untranslatable(f'`format` is "json" or a JSON schema, not {given[:100].decode(errors="replace")}')
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "format", "schema": raw}}}


def thinking(think: bool | str | None) -> dict[str, Any]:  # noqa: FBT001  # it is the client's value, not a switch
    """The names that chat templates have for it; templates that know none of them ignore them."""
    match think:
        case None | "":
            return {}
        case bool():
            return {"chat_template_kwargs": {"enable_thinking": think, "thinking": think}}
        case str() if think in _LEVELS:
            return {"reasoning_effort": think}
        case _:
            raise Untranslatable(f"`think` is true, false or one of {', '.join(_LEVELS)}, not {think[:100]!r}")
