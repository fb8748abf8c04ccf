"""What a multipart/form-data body says to vllama: read without copying the rest, and changed without touching the rest.

Read strictly, since another reader must not find another `model`: one boundary and nothing before the first or behind
the last one, headers that are just that, one `model`, and that no file. The fields may stand in any order. `keep_alive`
and `ttl` are fields of ours: engines never see them.
"""

import re
from collections.abc import Iterator

import msgspec

from vllama.gateway.names import NoModel, Said

_CONTENT_TYPE = re.compile(rb"\r\ncontent-type:[ \t]*([^\r]*)", re.IGNORECASE)
_PARAMETER = rb'[ \t]*;[ \t]*([!#$&+.^_`|~0-9A-Za-z-]+\*?)=(?:"((?:[^"\\\r\n]|\\[^\r\n])*)"|([^\s";,\\]+))'
_FORM = re.compile(rb"multipart/form-data((?:%b)+)[ \t]*" % _PARAMETER, re.IGNORECASE)
_DISPOSITION = re.compile(rb"form-data((?:%b)+)[ \t]*" % _PARAMETER, re.IGNORECASE)
_EACH = re.compile(_PARAMETER)
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046, 5.1.1
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")
_FIELDS = frozenset({b"model", b"keep_alive", b"ttl"})
_HEAD_BYTES = 8192  # of one part
_MOST_PARTS = 1000
_AS_IT_IS = (b"7bit", b"8bit", b"binary")


class NotAForm(ValueError):
    """The body is not multipart/form-data, or could be read in two ways; the text says in what."""


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """`at`: where the value of its `model` begins and ends. `ours`: the same of whole parts that no engine may see."""

    said: Said
    at: tuple[int, int]
    ours: tuple[tuple[int, int], ...] = ()


def read_form(head: bytes, body: bytes | bytearray) -> Form:
    """`head`: of the request. Raises NotAForm or NoModel."""
    values: dict[str, str] = {}
    at = (0, 0)
    ours: list[tuple[int, int]] = []
    for name, is_file, (begin, start, end, after) in _parts(body, _boundary(head)):
        if name not in _FIELDS:
            continue
        key = name.decode()
        if is_file:
            raise NotAForm(f"its `{key}` is a file")
        if key in values:
            raise NotAForm(f"it has more than one `{key}`")
        values[key] = _text(key, body[start:end])
        if key == "model":
            at = start, end
        else:
            ours.append((begin, after))
    if not values.get("model"):
        raise NoModel
    return Form(said=msgspec.convert(values, Said), at=at, ours=tuple(ours))


def rewrite_form(body: bytes | bytearray, form: Form, served: str | None) -> bytearray:
    """`body` with `served` as its model and nothing that is ours alone; None: its model keeps its name.

    A bytearray, as long bodies are, is changed where it is.
    """
    edits = [(*span, b"") for span in form.ours]
    if served is not None:
        edits.append((*form.at, served.encode()))
    held = body if isinstance(body, bytearray) else bytearray(body)
    for start, end, instead in sorted(edits, reverse=True):
        held[start:end] = instead
    return held


def _text(key: str, value: bytes | bytearray) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise NotAForm(f"its `{key}` is not UTF-8") from None


def _boundary(head: bytes) -> bytes:
    types = [found[1] for found in _CONTENT_TYPE.finditer(head)]
    form = _FORM.fullmatch(types[0]) if len(types) == 1 else None
    if form is None:
        raise NotAForm("its Content-Type is not multipart/form-data with a boundary")
    said = _parameters(form[1])
    boundary = said.pop(b"boundary", b"")
    if not _BOUNDARY.fullmatch(boundary):
        raise NotAForm("its Content-Type has no boundary as it must be")
    if said.pop(b"charset", b"utf-8").lower() != b"utf-8" or said:
        raise NotAForm("its Content-Type says more than a boundary")
    return boundary


def _parts(body: bytes | bytearray, boundary: bytes) -> Iterator[tuple[bytes, bool, tuple[int, int, int, int]]]:
    """Of each part its name, whether it is a file, and where it and its content begin and end. Raises NotAForm."""
    mark = b"--" + boundary
    delimiter = b"\r\n" + mark
    if not body.startswith(mark):
        raise NotAForm("it does not begin with its boundary")
    at = len(mark)
    for _ in range(_MOST_PARTS):
        if body.startswith(b"--", at):
            if bytes(body[at + 2 : at + 5]) not in {b"", b"\r\n"}:
                raise NotAForm("something follows its last boundary")
            return
        head_end = body.find(b"\r\n\r\n", at, at + _HEAD_BYTES)
        if head_end < 0 or not body.startswith(b"\r\n", at):
            raise NotAForm("a part of it has no head as it must be")
        start = head_end + 4
        end = body.find(delimiter, start)
        if end < 0:
            raise NotAForm("it does not end with its boundary")
        name, is_file = _understood(bytes(body[at + 2 : head_end]))
        yield name, is_file, (at - len(mark), start, end, end + len(b"\r\n"))
        at = end + len(delimiter)
    raise NotAForm(f"it has more than {_MOST_PARTS} parts")


def _understood(head: bytes) -> tuple[bytes, bool]:
    """The name of a part, and whether it is a file."""
    headers = [_HEADER.fullmatch(line) for line in head.split(b"\r\n")]
    if not all(headers):
        raise NotAForm("a part of it has a line that is no header")
    pairs = [(header[1].lower(), header[2].rstrip()) for header in headers if header is not None]
    dispositions = [value for name, value in pairs if name == b"content-disposition"]
    form = _DISPOSITION.fullmatch(dispositions[0]) if len(dispositions) == 1 else None
    said = _parameters(form[1]) if form is not None else {}
    if b"name" not in said or b"name*" in said:
        raise NotAForm("a part of it has no name as it must be")
    name = said[b"name"]
    if b"\\" in name:
        raise NotAForm("a name in it has a backslash")
    if name in _FIELDS and any(n == b"content-transfer-encoding" and v.lower() not in _AS_IT_IS for n, v in pairs):
        raise NotAForm(f"its `{name.decode()}` is encoded")
    return name, b"filename" in said or b"filename*" in said


def _parameters(text: bytes) -> dict[bytes, bytes]:
    """Names in lower case. Raises NotAForm where one is said twice."""
    said: dict[bytes, bytes] = {}
    for found in _EACH.finditer(text):
        name = found[1].lower()
        if name in said:
            raise NotAForm("one of its headers says something twice")
        said[name] = found[2] if found[3] is None else found[3]
    return said
