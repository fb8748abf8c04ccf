"""What a JSON body says to vllama: read without parsing the rest, and rewritten without touching the rest.

The engine must see what the client wrote, byte for byte, so a body is never written anew from what was understood
of it (a number like 1.10, the order of keys, a repeated key would not survive that). Only the value of `model` is
replaced, where an alias was used, and `keep_alive` and `ttl` are taken out, which engines do not know.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_TOKEN = re.compile(_STRING + rb"|[{}\[\]]", re.DOTALL)
_COLON = re.compile(rb"[ \t\n\r]*+:[ \t\n\r]*+")
_COMMA = re.compile(rb"[ \t\n\r]*+,[ \t\n\r]*+")
_NAME = re.compile(_STRING + rb"|null", re.DOTALL)
_SCALAR = re.compile(_STRING + rb"|[^\"{}\[\], \t\n\r]++", re.DOTALL)
_OURS = ("keep_alive", "ttl")
_LONGEST_KEY = len('"') * 2 + len("\\u006d") * max(map(len, ("model", *_OURS)))


class NotJson(ValueError):
    """The body is not what an inference request is: a JSON object whose `model`, if any, is a string."""


class NoModel(ValueError):
    """A JSON object that does not say which model it is for."""


class Said(msgspec.Struct, gc=False):
    """Of the keys at the top, those that mean something here; of a repeated one the last, as JSON parsers have it."""

    model: str | None = None
    stream: Any = False
    keep_alive: Any = msgspec.UNSET
    ttl: Any = msgspec.UNSET
    previous_response_id: Any = None

    @property
    def has_ours(self) -> bool:
        """There is something in it that an engine must not see."""
        return self.keep_alive is not msgspec.UNSET or self.ttl is not msgspec.UNSET


_decode = msgspec.json.Decoder(Said).decode


def said_in(body: bytes | bytearray) -> Said:
    """With a `model`. Raises NotJson or NoModel."""
    try:
        said = _decode(body)
    except RecursionError:
        raise NotJson("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise NotJson("it is not UTF-8 where it says `model`, `stream`, `keep_alive` or `ttl`") from None
    except msgspec.DecodeError as error:
        raise NotJson(str(error)) from None
    if not said.model:
        raise NoModel
    return said


def rewrite(body: bytes | bytearray, served: str | None) -> bytes:
    """`body`, of which `said_in` knows, with `served` in every top-level `model` and nothing that is ours alone.

    `served` None: its model keeps its name.
    """
    name = None if served is None else msgspec.json.encode(served)
    pieces: list[bytes | bytearray] = []
    kept = 0
    for start, end, is_ours in _edits(body):
        if name is None and not is_ours:
            continue
        if kept < start:
            pieces.append(body[kept:start])
        if name is not None and not is_ours:
            pieces.append(name)
            kept = end
        elif comma := _COMMA.match(body, end):
            kept = comma.end()
        else:  # the last member takes the comma before it along
            pieces[-1] = pieces[-1].rstrip(b" \t\n\r").removesuffix(b",")
            kept = end
    pieces.append(body[kept:])
    return b"".join(pieces)


def _edits(body: bytes | bytearray) -> Iterator[tuple[int, int, bool]]:
    """Where what is to change begins and ends: the value of a top-level `model`, or (True) the whole of a member."""
    depth, began = 0, -1
    for token in _TOKEN.finditer(body):
        match token[0][:1]:
            case b"{" | b"[":
                depth += 1
            case b"}" | b"]":
                depth -= 1
                if depth == 1 and began >= 0:
                    yield began, token.end(), True
                    began = -1
            case _ if depth == 1 and (edit := _edit(body, token)):
                start, end, is_ours = edit
                if end is None:
                    began = start
                else:
                    yield start, end, is_ours


def _edit(body: bytes | bytearray, string: re.Match[bytes]) -> tuple[int, int | None, bool] | None:
    """What is to change at this string, if it is a key that matters. End None: its value is nested, and ends later."""
    colon = _COLON.match(body, string.end())  # a string without one behind it is a value
    key = None if colon is None else _key(string[0])
    if colon is None or key is None:
        return None
    if key == "model":
        value = _NAME.match(body, colon.end())
        return None if value is None else (*value.span(), False)
    if key not in _OURS:
        return None
    scalar = _SCALAR.match(body, colon.end())
    return string.start(), None if scalar is None else scalar.end(), True


def _key(text: bytes) -> str | None:
    """None: none of those that we look for."""
    if b"\\" not in text:
        return _KEYS.get(text)
    return msgspec.json.decode(text, type=str) if len(text) <= _LONGEST_KEY else None


_KEYS = {b'"%s"' % key.encode(): key for key in ("model", *_OURS)}
