"""What values.py and amounts.py accept, as JSON Schema, for editors. Never less than they do; a test compares them.

Every shape takes null, which unsets a key, and a text with a `${NAME}` in it, of which nothing else is known.
"""

from collections.abc import Iterable
from typing import Any

from pydantic import WithJsonSchema

Shape = dict[str, Any]

REFERENCE: Shape = {"type": "string", "pattern": r"\$\{"}
_NUMBER_TEXT: Shape = {"type": "string", "pattern": r"^\s*[-+]?[0-9.]+([eE][-+]?[0-9]+)?\s*$"}
_UNITS = r"([kKmMgGtT]([iI]?[bB])?|[bB])?"


def shape(*options: Shape, null: bool = True) -> WithJsonSchema:
    accepted = [*options, REFERENCE, *([{"type": "null"}] if null else [])]
    return WithJsonSchema({"anyOf": accepted})


def either(*words: object) -> Shape:
    return {"enum": list(words)}


def whole(low: int, high: int | None = None) -> tuple[Shape, Shape]:
    """A number, or the same as text."""
    bounds = {"minimum": low} | ({} if high is None else {"maximum": high})
    return {"type": "integer", **bounds}, {"type": "string", "pattern": r"^\s*[-+]?[0-9]{1,18}\s*$"}


def number(low: float, high: float | None = None, *, above: bool = False) -> tuple[Shape, Shape]:
    bounds = {"exclusiveMinimum" if above else "minimum": low} | ({} if high is None else {"maximum": high})
    return {"type": "number", **bounds}, _NUMBER_TEXT


def _any_case(words: Iterable[str]) -> str:
    return "|".join("".join(f"[{letter}{letter.upper()}]" for letter in word) for word in words)


SWITCH: tuple[Shape, ...] = (
    {"type": "boolean"},
    {"type": "string", "pattern": rf"^\s*({_any_case(('true', 'false', 'yes', 'no', 'on', 'off'))})\s*$"},
)
TEXT: Shape = {"type": "string", "pattern": r"\S"}
NAMES: Shape = {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 256}}
DEVICES: tuple[Shape, ...] = (
    either("auto"),
    {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"anyOf": [*whole(0, 4095), REFERENCE]}},
)
_SCALAR = ["string", "number", "boolean"]
SETTING: tuple[Shape, ...] = (
    {"type": [*_SCALAR, "object"]},
    {"type": "array", "minItems": 1, "items": {"type": [*_SCALAR, "object"]}},
)
VARIABLE: Shape = {"type": ["string", "integer"]}
_HOST: Shape = {"type": "string", "pattern": r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$"}
HOSTS: tuple[Shape, ...] = (
    _HOST,
    {"type": "array", "minItems": 1, "items": {"anyOf": [_HOST, REFERENCE]}},
)
ADDRESS: Shape = {"type": "string", "pattern": r"^\s*https?://[^\s?#]+\s*$"}
TOKENS: tuple[Shape, ...] = (
    *whole(1), either("auto", -1), {"type": "string", "pattern": r"^\s*[0-9]{1,9}(\.[0-9]{1,9})?[kmgKMG]\s*$"},
)  # fmt: skip
AMOUNT: tuple[Shape, ...] = (
    {"type": "integer", "minimum": 1}, {"type": "string", "pattern": rf"^\s*[0-9]+(\.[0-9]+)?\s*{_UNITS}\s*$"},
)  # fmt: skip
DURATION: tuple[Shape, ...] = (
    {"type": "number", "minimum": 0},
    {"type": "string", "pattern": r"^\s*([0-9]+(\.[0-9]+)?\s*([mM][sS]|[sSmMhHdD])?\s*)+$"},
)
NEVER = either("never", "none")
LEVEL = either("auto", 1, 2, 3, "1", "2", "3")
