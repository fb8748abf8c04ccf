"""A request in Ollama's words -> what an engine is asked in OpenAI's."""

import enum
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from vllama.gateway.ollama import options
from vllama.gateway.ollama.messages import Untranslatable, to_openai
from vllama.gateway.ollama.requests import Asking, Chat, Embed, Embeddings, Generate, KeepAlive, Message

# vLLM has no word for "as much as there is room for" where no chat template is applied.
RAW_MAX_TOKENS = 512
T = TypeVar("T")


class Kind(enum.Enum):
    """By the path that is asked."""

    CHAT = b"/api/chat"
    GENERATE = b"/api/generate"
    EMBED = b"/api/embed"
    EMBEDDINGS = b"/api/embeddings"

    @property
    def generates(self) -> bool:
        return self in {Kind.CHAT, Kind.GENERATE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the engine gets, at which of its paths. `streamed`: the client wants lines, not one object at the end."""

    kind: Kind
    path: bytes
    body: bytes
    streamed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlyLoad:
    """Nothing is to be generated: it is about the model being there, or not there."""

    kind: Kind


def translate(kind: Kind, body: bytes | bytearray, *, model: str) -> Asked | OnlyLoad:
    """`model`: the name that the engine is asked for. Raises Untranslatable."""
    match kind:
        case Kind.CHAT:
            return _chat(_read(body, Chat), model)
        case Kind.GENERATE:
            return _generate(_read(body, Generate), model)
        case Kind.EMBED:
            embed = _read(body, Embed)
            return _embed(kind, embed.input, embed, model)
        case Kind.EMBEDDINGS:
            older = _read(body, Embeddings)
            return _embed(kind, older.prompt, Embed(keep_alive=older.keep_alive), model)


def _read(body: bytes | bytearray, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Untranslatable(f"the body is not what it must be: {error}") from None


def _chat(chat: Chat, model: str) -> Asked | OnlyLoad:
    if not chat.messages:
        return OnlyLoad(kind=Kind.CHAT)
    asked: dict[str, Any] = {"messages": to_openai(chat.messages)}
    if chat.tools:  # vLLM refuses an empty list
        asked["tools"] = chat.tools
    return _asked(Kind.CHAT, b"/v1/chat/completions", chat, asked | options.thinking(chat.think), model)


def _generate(generate: Generate, model: str) -> Asked | OnlyLoad:
    if not generate.prompt and not generate.images:
        return OnlyLoad(kind=Kind.GENERATE)
    if generate.template:
        raise Untranslatable("the engine applies the model's own chat template; send `raw` with a finished prompt")
    prompt = generate.prompt or ""
    if generate.raw or generate.suffix:
        asked: dict[str, Any] = {"prompt": prompt, "max_tokens": RAW_MAX_TOKENS}
        if generate.suffix:
            asked["suffix"] = generate.suffix
        return _asked(Kind.GENERATE, b"/v1/completions", generate, asked, model)
    system = [Message(role="system", content=generate.system)] if generate.system else []
    messages = [*system, Message(role="user", content=prompt, images=generate.images)]
    asked = {"messages": to_openai(messages)} | options.thinking(generate.think)
    return _asked(Kind.GENERATE, b"/v1/chat/completions", generate, asked, model)


def _asked(kind: Kind, path: bytes, asking: Asking, asked: dict[str, Any], model: str) -> Asked:
    """The engine is always asked for a stream, since only that tells when it began to answer."""
    body = (
        {"model": model}
        | asked
        | options.sampling(asking.options)
        | options.response_format(asking.format)
        | _logprobs(asking, chat=path == b"/v1/chat/completions")
        | _keep_alive(asking.keep_alive)
        | {"stream": True, "stream_options": {"include_usage": True}}
    )
    return Asked(kind=kind, path=path, body=msgspec.json.encode(body), streamed=asking.stream is not False)


def _embed(kind: Kind, texts: str | list[str] | None, embed: Embed, model: str) -> Asked | OnlyLoad:
    if not texts:
        return OnlyLoad(kind=kind)
    body: dict[str, Any] = {"model": model, "input": texts, "encoding_format": "float"}
    if embed.truncate is not False:
        body["truncate_prompt_tokens"] = -1
    if embed.dimensions:
        body["dimensions"] = embed.dimensions
    encoded = msgspec.json.encode(body | _keep_alive(embed.keep_alive))
    return Asked(kind=kind, path=b"/v1/embeddings", body=encoded, streamed=False)


def _logprobs(asking: Asking, *, chat: bool) -> dict[str, Any]:
    if not asking.logprobs or not chat:
        return {}
    return {"logprobs": True, "top_logprobs": asking.top_logprobs or 0}


def _keep_alive(keep_alive: KeepAlive) -> dict[str, Any]:
    return {} if keep_alive is None else {"keep_alive": keep_alive}
