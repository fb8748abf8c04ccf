"""One event as text."""

from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any

from rich.text import Text

from vllama.cli.render.words import wrapped


def render_event(event: Mapping[str, Any], *, zone: tzinfo | None, columns: int | None) -> Text:
    """When, whose, which and what; the latter two below, where the terminal is narrow."""
    when = datetime.fromisoformat(event["at"]).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")
    whose = when + (f"  {event['model']}" if event["model"] else "")
    said, narrow = f"{event['reason']}: ", columns is not None and len(whose) > columns // 2
    lines = [whose] if narrow else []
    lines += wrapped(event["message"], columns, indent="    ", first=f"    {said}" if narrow else f"{whose}  {said}")
    text = Text("\n".join(lines))
    text.stylize("dim", 0, len(when))
    begin = len(whose) + (5 if narrow else 2)
    text.stylize("yellow" if event["warning"] else "cyan", begin, begin + len(event["reason"]))
    return text
