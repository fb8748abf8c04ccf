"""Changes in a YAML document whose comments stay where they are.

ruamel hangs a comment on what stands before it. So what follows the last value of a map (a blank line, the comment
above the next key) is lifted off before a change there, and hung on what stands last afterwards.
"""

from collections.abc import Iterable
from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark
from ruamel.yaml.tokens import CommentToken


def put(into: CommentedMap, key: str, value: Any) -> None:
    """As `into[key] = value`."""
    before = key if key in into else next(reversed(into), None)
    tail = "" if before is None else _lift(into, before)
    into[key] = value
    _hang(into, key, tail)


def take_out(of: CommentedMap, key: str) -> str:
    """As `del of[key]`. What followed it, where nothing is left in `of` to hang that on."""
    tail = _lift(of, key)
    keys = list(of)
    at = keys.index(key)
    del of[key]
    of.ca.items.pop(key, None)
    if not tail.strip() and at < len(keys) - 1:
        return ""  # a blank line within
    if at:
        _hang(of, keys[at - 1], tail)
    elif len(keys) > 1:
        _above(of, keys[1], tail)
    else:
        return tail
    return ""


def extend(into: CommentedMap, key: str, items: Iterable[Any]) -> None:
    """As `into[key].extend(items)`."""
    tail = _lift(into, key)
    into[key].extend(items)
    _hang(into, key, tail)


def hang(into: CommentedMap, key: str, tail: str) -> None:
    """Let `tail` follow what stands at `key`."""
    _hang(into, key, tail)


def _leaf(container: Any, key: Any) -> tuple[Any, Any]:
    """What stands last in the value of `key`, and where."""
    value = container[key]
    while isinstance(value, CommentedMap | CommentedSeq) and value and not value.fa.flow_style():
        container, key = value, next(reversed(value)) if isinstance(value, CommentedMap) else len(value) - 1
        value = container[key]
    return container, key


def _slot(container: Any) -> int:
    """Where ruamel keeps the comment that follows a value."""
    return 2 if isinstance(container, CommentedMap) else 0


def _lift(container: CommentedMap, key: str) -> str:
    """All that follows the value's own line."""
    holder, at = _leaf(container, key)
    kept = holder.ca.items.get(at)
    token = kept[_slot(holder)] if kept else None
    if token is None:
        return ""
    own, end, tail = token.value.partition("\n")
    token.value = own + end
    if not own.strip():
        kept[_slot(holder)] = None
    return str(tail)


def _hang(container: CommentedMap, key: str, tail: str) -> None:
    if not tail:
        return
    holder, at = _leaf(container, key)
    kept = holder.ca.items.setdefault(at, [None, None, None, None])
    token = kept[_slot(holder)]
    if token is None:
        token = kept[_slot(holder)] = CommentToken("\n" + tail, CommentMark(0), None)
    else:
        token.value = token.value.rstrip("\n") + "\n" + tail

    value = holder[at]
    if isinstance(value, CommentedMap | CommentedSeq):  # `{...}` on one line: ruamel keeps the token in two places
        value.fa.set_flow_style()
        value.ca.comment = [token, None]


def _above(container: CommentedMap, key: str, tail: str) -> None:
    lines = [line.strip().removeprefix("#").removeprefix(" ") for line in tail.strip().splitlines()]
    container.yaml_set_comment_before_after_key(key, before="\n".join(lines), indent=container.lc.col)
