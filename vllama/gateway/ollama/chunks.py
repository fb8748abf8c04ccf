"""What an engine says in one event of a chat or completion, and in a whole answer with embeddings."""

from typing import Any

import msgspec

from vllama.gateway.ollama.requests import NULL


class Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class Call(msgspec.Struct):
    """A piece of one; only its first has an id and a name."""

    index: int = 0
    id: str | None = None
    function: Function | None = None


class Delta(msgspec.Struct):
    """`reasoning_content` is what it was called before."""

    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[Call] | None = None


class Logprobs(msgspec.Struct):
    content: list[msgspec.Raw] | None = None


class Choice(msgspec.Struct):
    """`text` instead of `delta` where no chat template is applied; then `logprobs` are of another form."""

    delta: Delta | None = None
    text: str | None = None
    logprobs: msgspec.Raw = NULL
    finish_reason: str | None = None


class Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Chunk(msgspec.Struct):
    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None


class Vector(msgspec.Struct):
    embedding: msgspec.Raw
    index: int = 0


class Vectors(msgspec.Struct):
    data: list[Vector]
    usage: Usage | None = None


chunk_of = msgspec.json.Decoder(Chunk).decode
vectors_of = msgspec.json.Decoder(Vectors).decode
_logprobs_of = msgspec.json.Decoder(Logprobs | None).decode


def logprobs_of(choice: Choice) -> list[msgspec.Raw]:
    """One for each token, as Ollama has them too."""
    if choice.delta is None:
        return []
    logprobs = _logprobs_of(choice.logprobs)
    return [] if logprobs is None else logprobs.content or []


def error_of(body: bytes | bytearray) -> str | None:
    """The sentence in an error's body, whoever wrote it: OpenAI's shape, FastAPI's, or a bare text. None: no JSON."""
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return sentence_of(said.get("error", said.get("detail", said)) if isinstance(said, dict) else said)


def sentence_of(error: Any) -> str:
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return str(error["message"])
    return error if isinstance(error, str) else msgspec.json.encode(error).decode()
