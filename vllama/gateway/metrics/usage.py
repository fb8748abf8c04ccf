"""The tokens that an engine reports, found at the end of its answer: bodies are not parsed for it.

The end is enough, since vLLM writes `usage` behind the text; and a quote within a text is escaped in JSON, so that no
text passes for it.
"""

import msgspec

LOOKED_AT_BYTES = 2048
_DEEPEST = 3  # objects within it, such as prompt_tokens_details


class _Usage(msgspec.Struct, gc=False):
    """Chat and completions have the first two, responses and messages the others."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


_decode = msgspec.json.Decoder(_Usage).decode


def usage_of(tail: bytes) -> tuple[int, int] | None:
    """Prompt and completion tokens. `tail`: the last of the answer, chunk framing and all; None: it tells none."""
    at = tail.rfind(b'"usage":', -LOOKED_AT_BYTES)
    if at < 0:
        return None
    end = tail.find(b"}", at) + 1
    try:
        usage = _decode(tail[at + 8 : end])
    except msgspec.DecodeError:  # nothing but numbers, as nearly always: else that brace closed an object within it
        return _of_nested(tail, at + 8, end)
    return usage.prompt_tokens or usage.input_tokens, usage.completion_tokens or usage.output_tokens


def _of_nested(tail: bytes, start: int, end: int) -> tuple[int, int] | None:
    for _ in range(_DEEPEST):
        end = tail.find(b"}", end) + 1
        try:
            usage = _decode(tail[start:end])
        except msgspec.DecodeError:
            continue
        return usage.prompt_tokens or usage.input_tokens, usage.completion_tokens or usage.output_tokens
    return None
