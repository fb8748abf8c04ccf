"""What clients of Ollama send. Unknown fields are ignored, as Ollama does: clients of all ages call."""

import msgspec

KeepAlive = int | float | str | None
NULL = msgspec.Raw(b"null")


class Function(msgspec.Struct, kw_only=True):
    name: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class ToolCall(msgspec.Struct, kw_only=True):
    function: Function
    id: str = ""


class Message(msgspec.Struct, kw_only=True):
    """`images`: base64. `tool_name` and `tool_call_id`: of a tool's answer."""

    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class Asking(msgspec.Struct, kw_only=True):
    """What chat and generate have in common. `stream` None: yes. `think`: a level, or whether at all."""

    stream: bool | None = None
    format: msgspec.Raw = NULL
    options: dict[str, msgspec.Raw] | None = None
    think: bool | str | None = None
    keep_alive: KeepAlive = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


class Chat(Asking, kw_only=True):
    messages: list[Message] | None = None
    tools: list[msgspec.Raw] | None = None


class Generate(Asking, kw_only=True):
    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    raw: bool | None = None
    images: list[str] | None = None


class Embed(msgspec.Struct, kw_only=True):
    input: str | list[str] | None = None
    truncate: bool | None = None
    dimensions: int | None = None
    keep_alive: KeepAlive = None


class Embeddings(msgspec.Struct, kw_only=True):
    prompt: str | None = None
    keep_alive: KeepAlive = None


class Named(msgspec.Struct, kw_only=True):
    """Of show, pull and the like; `name` is the older word."""

    model: str | None = None
    name: str | None = None
    stream: bool | None = None

    @property
    def said(self) -> str:
        return self.model or self.name or ""
