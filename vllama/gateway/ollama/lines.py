"""What an engine said -> Ollama's JSON lines, or its one object."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from vllama.gateway.ollama.ask import Kind
from vllama.gateway.ollama.chunks import Call, Choice, Chunk, Delta, Usage, Vectors, logprobs_of

NO_DELTA = Delta()


@dataclass(slots=True, kw_only=True)
class Times:
    """Seconds of a monotonic clock. `waited_s`: for the model. None: not yet."""

    begun_at: float
    waited_s: float = 0.0
    first_at: float | None = None
    last_at: float | None = None

    def saw_token(self, now: float) -> None:
        if self.first_at is None:
            self.first_at = now
        self.last_at = now

    def durations(self, now: float) -> dict[str, int]:
        """Nanoseconds, as measured here; nothing where nothing was generated."""
        said = {"total_duration": _ns(now - self.begun_at), "load_duration": _ns(self.waited_s)}
        if self.first_at is not None and self.last_at is not None:
            said["prompt_eval_duration"] = max(1, _ns(self.first_at - self.begun_at - self.waited_s))
            said["eval_duration"] = max(1, _ns(self.last_at - self.first_at))  # clients divide by it
        return said


@dataclass(slots=True)
class _ToolCall:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class Lines:
    """One answer. What is fed comes back as lines at once; without `streamed` all of it comes at the end."""

    def __init__(self, *, kind: Kind, model: str, streamed: bool, times: Times, wall: Callable[[], datetime]) -> None:
        self._kind, self._model, self._streamed = kind, model, streamed
        self._times, self._wall = times, wall
        self._calls: dict[int, _ToolCall] = {}
        self._text: list[str] = []
        self._thought: list[str] = []
        self._logprobs: list[msgspec.Raw] = []
        self._reason: str | None = None
        self._usage = Usage()

    def feed(self, chunk: Chunk, now: float) -> bytes:
        if chunk.usage is not None:
            self._usage = chunk.usage
        return b"".join(self._said(choice, now) for choice in chunk.choices or ())

    def end(self, now: float) -> bytes:
        """The last line, or the one object."""
        calls, spoiled = self._whole_calls()
        self._text += spoiled
        if not self._streamed:
            return self._line("".join(self._text), "".join(self._thought), calls, self._logprobs, self._closing(now))
        before = self._line("".join(spoiled), "", calls, [], {}) if calls or spoiled else b""
        return before + self._line("", "", [], [], self._closing(now))

    def _said(self, choice: Choice, now: float) -> bytes:
        delta = choice.delta or NO_DELTA
        text = delta.content or choice.text or ""
        thought = delta.reasoning or delta.reasoning_content or ""
        for call in delta.tool_calls or ():
            self._add(call)
        if choice.finish_reason is not None:
            self._reason = choice.finish_reason
        if not (text or thought or delta.tool_calls):
            return b""  # who speaks, or why it ended
        self._times.saw_token(now)
        logprobs = logprobs_of(choice)
        if not self._streamed:
            self._text.append(text)
            self._thought.append(thought)
            self._logprobs += logprobs
            return b""
        return self._line(text, thought, [], logprobs, {}) if text or thought else b""

    def _line(
        self, text: str, thought: str, calls: list[dict[str, Any]], logprobs: list[msgspec.Raw], closing: dict[str, Any]
    ) -> bytes:
        said: dict[str, Any] = {"model": self._model, "created_at": timestamp(self._wall())}
        body: dict[str, Any] = {"thinking": thought} if thought else {}
        if calls:
            body["tool_calls"] = calls
        if self._kind is Kind.CHAT:
            said["message"] = {"role": "assistant", "content": text} | body
        else:
            said |= {"response": text} | body
        if logprobs:
            said["logprobs"] = logprobs
        return msgspec.json.encode(said | (closing or {"done": False})) + b"\n"

    def _closing(self, now: float) -> dict[str, Any]:
        reason = "stop" if self._reason in {None, "tool_calls"} else self._reason
        counts = {"prompt_eval_count": self._usage.prompt_tokens, "eval_count": self._usage.completion_tokens}
        told = {name: count for name, count in counts.items() if count is not None}
        return {"done": True, "done_reason": reason} | self._times.durations(now) | told

    def _add(self, piece: Call) -> None:
        call = self._calls.setdefault(piece.index, _ToolCall())
        call.id = call.id or piece.id or ""
        if piece.function is not None:
            call.name = call.name or piece.function.name or ""
            call.arguments.append(piece.function.arguments or "")

    def _whole_calls(self) -> tuple[list[dict[str, Any]], list[str]]:
        """The calls, and the text of those that no client could read: arguments are an object here, not a string."""
        calls: list[dict[str, Any]] = []
        spoiled: list[str] = []
        for index, call in sorted(self._calls.items()):
            text = "".join(call.arguments)
            arguments = _object(text or "{}")
            if arguments is None:
                spoiled.append(f"{call.name}({text})")
            else:
                function = {"index": index, "name": call.name, "arguments": arguments}
                calls.append({"id": call.id, "function": function})
        return calls, spoiled


def embeddings(kind: Kind, vectors: Vectors, *, model: str, times: Times, now: float) -> bytes:
    rows = [vector.embedding for vector in sorted(vectors.data, key=lambda vector: vector.index)]
    if kind is Kind.EMBEDDINGS:
        return msgspec.json.encode({"embedding": rows[0] if rows else []})
    said = {"model": model, "embeddings": rows} | times.durations(now)
    if vectors.usage is not None and vectors.usage.prompt_tokens is not None:
        said["prompt_eval_count"] = vectors.usage.prompt_tokens
    return msgspec.json.encode(said)


def only_loaded(kind: Kind, *, model: str, unloaded: bool, at: datetime) -> bytes:
    """The answer to a request that generates nothing."""
    match kind:
        case Kind.EMBED:
            return msgspec.json.encode({"model": model, "embeddings": []})
        case Kind.EMBEDDINGS:
            return msgspec.json.encode({"embedding": []})
        case Kind.CHAT:
            said: dict[str, Any] = {"message": {"role": "assistant", "content": ""}}
        case Kind.GENERATE:
            said = {"response": ""}
    head = {"model": model, "created_at": timestamp(at)}
    return msgspec.json.encode(head | said | {"done": True, "done_reason": "unload" if unloaded else "load"})


def timestamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _object(text: str) -> Any:
    """The object that `text` is; None: it is none."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
