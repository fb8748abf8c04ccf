"""llama-swap's macros: `${name}`, `${env.NAME}`, `${MODEL_ID}` and `${PORT}`."""

import re
from collections.abc import Mapping
from typing import Any

PORT = "${PORT}"
_MACRO = re.compile(r"\$\{([A-Za-z0-9_.-]+)\}")
_DEEPEST = 20


class UnknownMacro(Exception):
    """Its text is the macro."""


def fill(text: str, macros: Mapping[str, Any]) -> str:
    """`text` with its macros; `${env.NAME}` as models.yaml writes it, `${NAME}`, and `${PORT}` as it is.

    Raises UnknownMacro.
    """
    for _ in range(_DEEPEST):
        filled = _MACRO.sub(lambda match: _value(match, macros), text)
        if filled == text:
            return re.sub(r"\$\{env\.([A-Za-z_][A-Za-z0-9_]*)\}", r"${\1}", text)
        text = filled
    raise UnknownMacro("macros that name each other")


def _value(match: re.Match[str], macros: Mapping[str, Any]) -> str:
    name = match[1]
    if name == "PORT" or name.startswith("env."):
        return match[0]
    if name not in macros:
        raise UnknownMacro(match[0])
    value = macros[name]
    return str(value).lower() if isinstance(value, bool) else str(value)
