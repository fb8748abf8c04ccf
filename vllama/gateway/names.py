"""The `model` of a JSON body: read without parsing the rest, and replaced without touching the rest.

The engine must see what the client wrote, byte for byte, so a body is never written anew from what was understood
of it (a number like 1.10, the order of keys, a repeated key would not survive that).
"""

import re
from collections.abc import Iterator

import msgspec

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_TOKEN = re.compile(_STRING + rb"|[{}\[\]]", re.DOTALL)
_COLON = re.compile(rb"[ \t\n\r]*+:[ \t\n\r]*+")
_VALUE = re.compile(_STRING + rb"|null", re.DOTALL)
_LONGEST_KEY = len(b'"\\u006d\\u006f\\u0064\\u0065\\u006c"')


class NotJson(ValueError):
    """The body is not what an inference request is: a JSON object whose `model`, if any, is a string."""


class NoModel(ValueError):
    """A JSON object that does not say which model it is for."""


class _Body(msgspec.Struct):
    model: str | None = None


_decode = msgspec.json.Decoder(_Body).decode


def model_of(body: bytes | bytearray) -> str:
    """The top-level `model`; of several the last, as JSON parsers have it. Raises NotJson or NoModel."""
    try:
        model = _decode(body).model
    except RecursionError:
        raise NotJson("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise NotJson("its `model` is not UTF-8") from None
    except msgspec.DecodeError as error:
        raise NotJson(str(error)) from None
    if not model:
        raise NoModel
    return model


def rewrite_model(body: bytes | bytearray, served: str) -> bytes:
    """`body`, in which `model_of` found a name, with `served` in every top-level `model`; all else as it was."""
    value = msgspec.json.encode(served)
    pieces: list[bytes | bytearray] = []
    kept = 0
    for start, end in _model_values(body):
        pieces += (body[kept:start], value)
        kept = end
    pieces.append(body[kept:])
    return b"".join(pieces)


def _model_values(body: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """Where the values of the top-level keys `model` begin and end."""
    depth = 0
    for token in _TOKEN.finditer(body):
        match token[0][:1]:
            case b"{" | b"[":
                depth += 1
            case b"}" | b"]":
                depth -= 1
            case _ if depth == 1:
                colon = _COLON.match(body, token.end())  # a string without one behind it is a value
                if colon is not None and _is_model(token[0]) and (value := _VALUE.match(body, colon.end())):
                    yield value.span()


def _is_model(key: bytes) -> bool:
    if b"\\" not in key:
        return key == b'"model"'
    return len(key) <= _LONGEST_KEY and msgspec.json.decode(key) == "model"
