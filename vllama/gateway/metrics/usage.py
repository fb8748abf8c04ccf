"""The tokens that an engine reports, found at the end of its answer: bodies are not parsed for it.

The end is enough, since vLLM writes `usage` behind the text; and a quote within a text is escaped in JSON, so that no
text passes for it.
"""

import msgspec

LOOKED_AT_BYTES = 2048
_LATEST = slice(-LOOKED_AT_BYTES, None)
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
    _, name, behind = tail[_LATEST].rpartition(b'"usage":')  # costs less than to find it and to cut it out
    if not name:
        return None
    numbers, brace, _ = behind.partition(b"}")
    try:
        usage = _decode(numbers + brace)
    except msgspec.DecodeError:  # numbers are all there is, nearly always: else that brace closed an object within it
        return _of_nested(behind, len(numbers) + 1)
    return usage.prompt_tokens or usage.input_tokens, usage.completion_tokens or usage.output_tokens


def _of_nested(behind: bytes, end: int) -> tuple[int, int] | None:
    for _ in range(_DEEPEST):
        end = behind.find(b"}", end) + 1
        try:
            usage = _decode(behind[:end])
        except msgspec.DecodeError:
            continue
        return usage.prompt_tokens or usage.input_tokens, usage.completion_tokens or usage.output_tokens
    return None
