"""What every answer may look at: the command, the settings, the core, and how the server itself is doing."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from vllama.simulator.command import ServeCommand
from vllama.simulator.core_client import CoreClient
from vllama.simulator.settings import Settings
from vllama.simulator.text import detokenize, tokenize
from vllama.simulator.web import ApiError, bad_value

FINGERPRINT = "vllm-0.32.0-6135e469"


@dataclass(slots=True, kw_only=True)
class StoredResponse:
    """What /v1/responses keeps. In the background: its events so far where it streams, and who works on it."""

    response: dict[str, Any]
    events: list[str] | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def is_under_way(self) -> bool:
        return self.response["status"] in {"queued", "in_progress"}


@dataclass(slots=True, kw_only=True)
class ServerState:
    command: ServeCommand
    settings: Settings
    core: CoreClient
    load: int = 0  # requests under way, for /load
    draining: bool = False
    rejections: int = 0
    responses: dict[str, "StoredResponse"] = field(default_factory=dict)
    sleep_level: int | None = None  # as /metrics shows it: what was last asked for; None is awake

    @property
    def max_model_len(self) -> int:
        return self.command.max_model_len or self.settings.max_model_len

    @property
    def first_name(self) -> str:
        return self.command.served_model_names[0]

    def check_model(self, name: object, *, generates: bool) -> str:
        """The name to answer with: the first one, whichever was asked for, or the adapter's. ApiError if it is not
        served; pooling routes word it differently.
        """
        if name in self.command.lora_modules:
            return str(name)
        if not name or name in self.command.served_model_names:
            return self.first_name
        message = f"The model `{name}` does not exist."
        if generates:
            message += f" Valid aliases: {', '.join(self.command.served_model_names)}."
        raise ApiError(404, message, type_="NotFoundError", param="model" if generates else None)

    def check_prompt(self, prompt: object, *, truncate: bool = False) -> tuple[str, int]:
        """A text or token ids -> the text and its number of tokens. ApiError if it is too long; `truncate`: cut it."""
        tokens = tokenize(prompt) if isinstance(prompt, str) else prompt
        if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
            raise bad_value("A prompt is a string or a list of token ids.", "prompt", prompt)
        longest = self.max_model_len
        if truncate and len(tokens) > longest:
            prompt = tokens = tokens[:longest]
        if len(tokens) > longest:
            raise bad_value(
                f"This model's maximum context length is {longest} tokens. However, your prompt contains at least "
                f"{longest + 1} input tokens, which exceeds this limit even without any output tokens. "
                "Please reduce the length of the input prompt.",
                "input_tokens",
                longest + 1,
            )
        return prompt if isinstance(prompt, str) else detokenize(tokens), len(tokens)

    def check_capacity(self) -> None:
        """ApiError if no request can be taken now."""
        if self.draining:
            raise ApiError(500, "cannot schedule new futures after shutdown", type_="InternalServerError")
        limit = self.command.max_num_queued_reqs
        if limit is not None and self.core.in_flight >= limit:
            self.rejections += 1
            raise ApiError(
                503,
                "The engine is currently busy and cannot accept new requests. "
                "Please try again later or on a different instance.",
                type_="Service Unavailable",
            )


def now() -> int:
    """What `created` says."""
    return int(time.time())
