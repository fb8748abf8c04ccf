"""Tokens, words and vectors made of hashes: the same question to the same model has the same answer for ever."""

import hashlib
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_WORDS = (  # noqa: SIM905 - words are easier to read as words; one of them is longer in bytes than in letters
    "the quick river carries small boats past old stone towers where café lamps burn late and people talk about rain "
    "bread music distant hills while children count birds on every wire until night folds its blue cloth over roofs"
).split()
_TOKEN = re.compile(rb" ?[^\s]{1,4}|\s", re.DOTALL)
_DIMENSIONS = 64


def words(model: str, prompt: str, count: int) -> Iterator[str]:
    """`count` words, each with the space before it, from the second on."""
    for position in range(count):
        word = _WORDS[_number(model, prompt, str(position)) % len(_WORDS)]
        yield f" {word}" if position else word


def cut_at_stop(pieces: Sequence[str], stops: Sequence[str]) -> tuple[list[str], str | None]:
    """The pieces up to the first stop string, which is left out; and which one that was, if any."""
    text = "".join(pieces)
    found = min(((at, stop) for stop in stops if stop and (at := text.find(stop)) >= 0), default=None)
    if found is None:
        return list(pieces), None
    end, stop = found
    kept, start = [], 0
    for piece in pieces:
        if start >= end + len(stop):
            break
        kept.append(piece[: max(end - start, 0)])
        start += len(piece)
    return kept, stop


def tokenize(text: str) -> list[int]:
    """About four letters a token. The number holds the letters, so that `detokenize` needs no vocabulary."""
    return [int.from_bytes(b"\x01" + piece) for piece in _TOKEN.findall(text.encode())]


def detokenize(tokens: Sequence[int]) -> str:
    pieces = (token.to_bytes((token.bit_length() + 7) // 8)[1:] for token in tokens)
    return b"".join(pieces).decode(errors="replace")


def render_chat(messages: Sequence[Mapping[str, Any]]) -> str:
    """What a chat template makes of the messages."""
    turns = (f"<|im_start|>{message.get('role')}\n{_content(message)}<|im_end|>\n" for message in messages)
    return "".join(turns) + "<|im_start|>assistant\n"


def unit_vector(model: str, text: str) -> list[float]:
    """`_DIMENSIONS` numbers of length 1, at float32 precision so that both encodings say the same."""
    digest = hashlib.shake_256(f"{model}\0{text}".encode()).digest(2 * _DIMENSIONS)
    raw = [number / 32768 for number in struct.unpack(f"<{_DIMENSIONS}h", digest)]
    length = math.sqrt(sum(number * number for number in raw))
    packed = struct.pack(f"<{_DIMENSIONS}f", *(number / length for number in raw))
    return list(struct.unpack(f"<{_DIMENSIONS}f", packed))


def score(model: str, query: str, document: str) -> float:
    """0..1."""
    return (_number(model, query, document) % 10**6) / 10**6


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def _number(*parts: str) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest())
