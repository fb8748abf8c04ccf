"""What the API server and its core say to each other: one JSON line each over a socket pair."""

from typing import Any

import msgspec


class Add(msgspec.Struct, frozen=True, tag=True):
    """A request. `steps` words are generated; 0 is a pooling request, which has one step and no text."""

    request_id: str
    prompt: str
    steps: int
    finish_reason: str
    stop: list[str] = []


class Abort(msgspec.Struct, frozen=True, tag=True):
    request_ids: list[str]


class Call(msgspec.Struct, frozen=True, tag=True):
    """A method of the engine that answers once, with a Reply of the same number."""

    number: int
    method: str
    arguments: dict[str, Any] = {}


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The model is loaded."""


class Output(msgspec.Struct, frozen=True, tag=True):
    request_id: str
    text: str
    tokens: int  # new ones in this output
    finish_reason: str | None = None
    stop_reason: str | None = None  # the stop string that ended it


class Reply(msgspec.Struct, frozen=True, tag=True):
    number: int
    result: Any = None
    error: str | None = None


class Stats(msgspec.Struct, frozen=True, tag=True):
    running: int
    waiting: int


class Dead(msgspec.Struct, frozen=True, tag=True):
    """The core is about to end by itself."""


Command = Add | Abort | Call
Event = Ready | Output | Reply | Stats | Dead

encode = msgspec.json.encode
decode_command = msgspec.json.Decoder(Command).decode
decode_event = msgspec.json.Decoder(Event).decode
