"""How a file would change, as a diff without secrets."""

import difflib
import re

from rich.text import Text

from vllama.engine.shown import masked

_STYLES = {"+": "green", "-": "red", "@": "cyan"}
_PAIR = re.compile(r"(?P<name>[\w.-]+)(?P<between>\"?:\s+[\"']?)(?P<value>[^\s,}\"'#][^,}\"'#]*)")


def difference(before: str, after: str, *, name: str) -> str:
    """Empty where nothing changes."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), name, name, lineterm="", n=2)
    return "\n".join(map(hidden, lines))


def render_difference(text: str) -> Text:
    shown = Text()
    for line in text.splitlines():
        style = "bold" if line.startswith(("+++", "---")) else _STYLES.get(line[:1], "default")
        shown.append(f"{line}\n", style)
    shown.rstrip()
    return shown


def hidden(line: str) -> str:
    """`line` of a models.yaml, without the values of keys that speak of secrets; `${NAME}` is none."""
    return _PAIR.sub(_masked, line)


def _masked(match: re.Match[str]) -> str:
    value = match["value"]
    if value.startswith("${"):
        return match[0]
    return match["name"] + match["between"] + masked(match["name"], value)
