"""`${NAME}` and `${NAME:-default}` in the values of models.yaml; `$${` is a plain `${`."""

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<or>:-(?P<default>[^}]*))?\}|\$\{")


def expand(text: str, environ: Mapping[str, str], *, longest: int) -> str:
    """`text` with its references replaced. As in a shell, `:-` also serves where NAME is set but empty.

    ValueError where NAME is not set and has no default, where a reference is misspelled, and where the
    result would have more than `longest` characters.
    """
    length = len(text)

    def replace(match: re.Match[str]) -> str:
        nonlocal length
        value = _value(match, environ)
        length += len(value)
        if length > longest:
            raise ValueError(f"is longer than {longest} characters once its references are filled in")
        return value

    return _REFERENCE.sub(replace, text)


def _value(match: re.Match[str], environ: Mapping[str, str]) -> str:
    if match[0] == "$${":
        return "${"
    name = match["name"]
    if name is None:
        raise ValueError("has a '${' that is no reference; write ${NAME} or ${NAME:-default}, or $${ for a plain '${'")
    value = environ.get(name)
    if match["or"] is not None:
        return value or str(match["default"])
    if value is None:
        raise ValueError(f"${{{name}}}: the environment has no {name}; set it, or write ${{{name}:-default}}")
    return value
