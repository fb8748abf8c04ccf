"""Single values of models.yaml. Each function takes what YAML gave and raises ValueError with what is accepted.

Numbers are also taken from text, because `${NAME}` gives text; true and false never are numbers.
"""

# ruff: noqa: TRY004  pydantic takes ValueError and no TypeError

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from vllama.controller.manifest.problems import shown
from vllama.domain.spec import Scalar, Setting

_TRUE = ("true", "yes", "on")
_FALSE = ("false", "no", "off")
_LONGEST_NAME = 256
_LARGEST = 1 << 53


def whole(low: int, high: int = _LARGEST) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        number = value
        if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]{1,18}", value.strip()):
            number = int(value)
        if isinstance(number, bool) or not isinstance(number, int):
            raise ValueError(f"{shown(value)} is not a whole number")
        if not low <= number <= high:
            raise ValueError(f"{number} is out of range; {_range(low, high)}")
        return number

    return read


def _range(low: float, high: float) -> str:
    if high >= _LARGEST:
        return f"at least {low:g}"
    return f"{low:g} to {high:g}" if low > -_LARGEST else f"at most {high:g}"


def number(low: float, high: float = _LARGEST, *, above: bool = False) -> Callable[[Any], float]:
    """`above`: `low` itself is out of range."""

    def read(value: Any) -> float:
        parsed = value
        if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?", value.strip()):
            try:
                parsed = float(value)
            except ValueError:
                parsed = None
        if isinstance(parsed, bool) or not isinstance(parsed, (int, float)):
            raise ValueError(f"{shown(value)} is not a number")
        if not low <= parsed <= high or (above and parsed == low):
            reach = f"above {low:g}, up to {high:g}" if above else _range(low, high)
            raise ValueError(f"{shown(value)} is out of range; {reach}")
        return float(parsed)

    return read


def switch(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _TRUE + _FALSE:
        return value.strip().lower() in _TRUE
    raise ValueError(f"{shown(value)} is neither true nor false")


def text(value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, (bool, int, float)):
        raise ValueError(f"{shown(value)} is read as a number or a truth value; put it in quotes")
    raise ValueError(f"{shown(value)} is not text")


def name(value: Any) -> str:
    """The name of a model, an alias or an adapter, as clients write it."""
    word = text(value)
    if len(word) > _LONGEST_NAME:
        raise ValueError(f"{shown(word)} has {len(word)} characters; a name has at most {_LONGEST_NAME}")
    if not word.isprintable() or word != word.strip():
        raise ValueError(f"{shown(word)} is no name: it begins or ends with a space, or has unprintable characters")
    return word


def one_of(*choices: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value in choices and isinstance(value, str):
            return value
        raise ValueError(f"{shown(value)} is not one of {', '.join(choices)}")

    return read


def devices(value: Any) -> tuple[int, ...] | None:
    """None: auto."""
    if value == "auto":
        return None
    if not isinstance(value, list) or not value:
        raise ValueError(f"{shown(value)} is not a list of GPU numbers; write for example [0], [0, 1] or auto")
    numbers = tuple(whole(0, 4095)(item) for item in value)
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"{shown(value)} names a GPU twice")
    return numbers


def setting(value: Any) -> Setting:
    """Any value of a vLLM setting: a scalar, a list of scalars, or a mapping, which vLLM takes as JSON."""
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    if isinstance(value, list):
        if not value:
            raise ValueError("an empty list is no value; leave the key out")
        return tuple(_item(item) for item in value)
    if isinstance(value, (str, int, float)):
        return value
    raise ValueError(f"{shown(value)} is no value; write a number, text, true, false, a list or a mapping")


def _item(value: Any) -> Scalar:
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    if isinstance(value, (str, int, float)):
        return value
    raise ValueError(f"{shown(value)} cannot stand in a list here; write numbers or text")


def variable(value: Any) -> str:
    """The value of an environment variable."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{shown(value)} could be written in several ways; put it in quotes")


def media_domains(value: Any) -> Setting:
    """Hosts that an engine may fetch images and sounds from, as vLLM compares them: whole names in lower case."""
    if isinstance(value, str) and value in {"any", "none"}:
        return value
    hosts = [value] if isinstance(value, str) else value
    if not isinstance(hosts, list) or not hosts:
        raise ValueError(f"{shown(value)} is not a list of hosts; write for example [images.example.org], any or none")
    return tuple(_host(host) for host in hosts)


def _host(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", value):
        raise ValueError(f"{shown(value)} is not the whole name of a host; write for example images.example.org")
    return value.lower()


def endpoint(value: Any) -> str:
    """`http://host:port/path`, without a slash at the end; nor /v1, with which clients of OpenAI's write it."""
    address = text(value).strip()
    try:
        parts = urlsplit(address)
        complete = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        complete = False
    if not complete or not address.isprintable() or " " in address or parts.query or parts.fragment:
        raise ValueError(f"{shown(value)} is not the address of a server; write for example http://gpu-server-1:8081")
    if "@" in parts.netloc:
        raise ValueError("the address of a server has no name and password in it; write `api_key: ${NAME}` beside it")
    return address.rstrip("/").removesuffix("/v1").rstrip("/")


def credential(value: Any) -> str:
    """What can stand behind `Authorization: Bearer`. It is in no message."""
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]{1,4096}", value):
        raise ValueError("an API key is visible ASCII characters, best given as ${NAME} of the environment")
    return value
