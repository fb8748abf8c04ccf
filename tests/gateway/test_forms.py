"""The `model` of a form: found wherever it stands, renamed where it stands, and refused where two could be meant."""

from email import message_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllama.gateway.forms import NotAForm, read_form, rewrite_form
from vllama.gateway.names import NoModel

HEAD = b"POST /v1/audio/transcriptions HTTP/1.1\r\nA: b\r\ncontent-type: multipart/form-data; boundary=%b\r\nB: c\r\n"
PLAIN = HEAD % b"xyz"


def part(headers: bytes, content: bytes, boundary: bytes = b"xyz") -> bytes:
    return b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary, headers, content)


def field(name: bytes, content: bytes) -> bytes:
    return part(b'Content-Disposition: form-data; name="%b"' % name, content)


MODEL = field(b"model", b"tiny")
SOUND = part(
    b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav', b"\0\xff\r\n--xy"
)
END = b"--xyz--\r\n"
BOUNDARIES = st.from_regex(rb"[0-9A-Za-z'()+_,./:=?-]{1,40}", fullmatch=True)
CONTENTS = st.binary(max_size=60) | st.sampled_from([b"\r\n", b"--", b"\r\n--", b"model", b"\r\n\r\n", b"--xyz"])
PARTS = st.lists(
    st.tuples(st.sampled_from([b"file", b"language", b"prompt", b"Model", b"model "]), CONTENTS, st.booleans()),
    max_size=5,
)


@given(
    BOUNDARIES,
    PARTS,
    st.integers(0, 5),
    st.text(min_size=1, max_size=20),
    st.text(min_size=1, max_size=20),
    st.booleans(),
)
def test_it_is_found_in_any_place_and_nothing_else_changes(  # noqa: PLR0917  # Hypothesis fills them
    boundary: bytes, parts: list[tuple[bytes, bytes, bool]], place: int, name: str, served: str, held: bool
) -> None:
    def form(model: str) -> bytes:
        pieces = [
            part(
                b'Content-Disposition: form-data; name="%b"%b' % (key, b'; filename="f"' if is_file else b""),
                content.replace(b"\r\n--" + boundary, b""),
                boundary,
            )
            for key, content, is_file in parts
        ]
        own = part(b"content-disposition:form-data;name=model", model.encode("utf-8", "replace"), boundary)
        pieces.insert(place, own)
        return b"".join((*pieces, b"--", boundary, b"--"))

    head = HEAD % (b'"%b"' % boundary)
    body = form(name)
    if any(b"\r\n--" + boundary in content for _, content, _ in parts):
        return
    found = read_form(head, bytearray(body) if held else body)
    assert found.said.model == name.encode("utf-8", "replace").decode()
    renamed = rewrite_form(bytearray(body) if held else body, found, served.encode("utf-8", "replace").decode())
    assert bytes(renamed) == form(served)


def test_another_reader_finds_the_same() -> None:
    body = b"".join((SOUND, field(b"prompt", b"model"), MODEL, END))
    form = read_form(PLAIN, body)
    rewritten = bytes(rewrite_form(body, form, "org/m"))
    read = message_from_bytes(b"Content-Type: multipart/form-data; boundary=xyz\r\n\r\n" + rewritten)
    said = {
        one.get_param("name", header="content-disposition"): one.get_payload(decode=True) for one in read.get_payload()
    }
    assert (form.said.model, said["model"], said["prompt"]) == ("tiny", b"org/m", b"model")


OURS = {b"keep_alive": b"10m", b"ttl": b"-1"}


@given(st.permutations(["model", "keep_alive", "ttl", "sound", "prompt"]), st.booleans(), st.booleans())
def test_what_is_said_to_us_alone_is_read_and_taken_out(order: list[str], renamed: bool, held: bool) -> None:
    parts = {name.decode(): field(name, value) for name, value in OURS.items()} | {
        "model": MODEL, "sound": SOUND, "prompt": field(b"prompt", b"keep_alive"),
    }  # fmt: skip
    body = b"".join(parts[name] for name in order) + END
    form = read_form(PLAIN, bytearray(body) if held else body)
    assert (form.said.model, form.said.keep_alive, form.said.ttl) == ("tiny", "10m", "-1")
    left = [name for name in order if name.encode() not in OURS]
    model = field(b"model", b"org/m") if renamed else MODEL
    expected = b"".join(model if name == "model" else parts[name] for name in left) + END
    assert bytes(rewrite_form(bytearray(body) if held else body, form, "org/m" if renamed else None)) == expected


@pytest.mark.parametrize("twice", [MODEL, field(b"keep_alive", b"1m")])
def test_what_is_said_twice_is_refused(twice: bytes) -> None:
    with pytest.raises(NotAForm, match="more than one"):
        read_form(PLAIN, MODEL + field(b"keep_alive", b"1m") + twice + END)


@pytest.mark.parametrize("name", ["naïve-模型", "a/b", "x" * 300])
def test_any_name_is_taken(name: str) -> None:
    assert read_form(PLAIN, field(b"model", name.encode()) + END).said.model == name


@pytest.mark.parametrize("body", [SOUND + END, field(b"model", b"") + END, END])
def test_no_model_is_no_model(body: bytes) -> None:
    with pytest.raises(NoModel):
        read_form(PLAIN, body)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "does not begin with its boundary"),
        (b"preamble\r\n" + MODEL + END, "does not begin with its boundary"),
        (b"\r\n" + MODEL + END, "does not begin with its boundary"),
        (MODEL, "does not end with its boundary"),
        (MODEL.removesuffix(b"\r\n") + END, "does not end with its boundary"),
        (MODEL + END + b"x", "something follows"),
        (MODEL + END + MODEL + END, "something follows"),
        (MODEL + b"--xyzzy\r\n" + END, "no head"),
        (MODEL + b"--xyz \r\n" + SOUND + END, "no head"),
        (MODEL.replace(b"\r\n", b"\n") + b"--xyz--", "no head"),
        (MODEL + MODEL + END, "more than one `model`"),
        (part(b'Content-Disposition: form-data; name="model"; filename="m"', b"tiny") + END, "is a file"),
        (part(b"Content-Disposition: form-data; name=\"model\"; filename*=utf-8''m", b"tiny") + END, "is a file"),
        (part(b'Content-Disposition: form-data; name="x"; name="model"', b"tiny") + END, "twice"),
        (part(b"Content-Disposition: form-data; name*=utf-8''model", b"tiny") + END, "no name"),
        (part(b"Content-Disposition: form-data; name=\"x\"; name*=utf-8''model", b"tiny") + END, "no name"),
        (part(b'Content-Disposition: form-data; name="mo\\del"', b"tiny") + END, "backslash"),
        (part(b'Content-Disposition: attachment; name="model"', b"tiny") + END, "no name"),
        (part(b"Content-Disposition: form-data", b"tiny") + END, "no name"),
        (part(b"Content-Type: text/plain", b"tiny") + END, "no name"),
        (part(b'Content-Disposition: form-data; name="x"\r\nContent-Disposition: form-data; name="model"', b"t") + END,
         "no name"),
        (part(b'Content-Disposition: form-data; name="model"\r\n folded', b"tiny") + END, "no header"),
        (part(b'Content-Disposition: form-data; name="model"\r\nContent-Transfer-Encoding: base64', b"dGlueQ==") + END,
         "is encoded"),
        (field(b"model", b"\xff") + END, "not UTF-8"),
        (part(b"A: " + b"b" * 9000, b"tiny") + END, "no head"),
        (field(b"a", b"") * 1001 + END, "more than 1000 parts"),
    ],
)  # fmt: skip
def test_what_could_be_read_otherwise_is_refused(body: bytes, why: str) -> None:
    for held in (body, bytearray(body)):
        with pytest.raises(NotAForm, match=why):
            read_form(PLAIN, held)


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/mixed; boundary=xyz",
        b"multipart/form-data; boundary=xyz; boundary=abc",
        b"multipart/form-data; boundary=xyz; BOUNDARY=abc",
        b"multipart/form-data; boundary=xyz, multipart/form-data; boundary=abc",
        b'multipart/form-data; boundary="x\\yz"',
        b'multipart/form-data; boundary="xyz "',
        b"multipart/form-data; boundary=xyz; charset=utf-16",
        b"multipart/form-data; boundary*=utf-8''xyz",
        b"multipart/form-data; boundary=" + b"x" * 71,
        b"multipart/form-data; boundary=xyz\r\ncontent-type: multipart/form-data; boundary=abc",
    ],
)
def test_a_boundary_that_could_be_another_is_refused(content_type: bytes) -> None:
    head = b"POST /x HTTP/1.1\r\nContent-Type: %b\r\n" % content_type
    with pytest.raises(NotAForm, match=r"Content-Type|says something twice"):
        read_form(head, MODEL + END)


@pytest.mark.parametrize(
    "content_type", [b'Multipart/Form-Data; Boundary="xyz"', b"multipart/form-data;boundary=xyz; charset=UTF-8"]
)
def test_a_boundary_may_be_written_as_http_has_it(content_type: bytes) -> None:
    head = b"POST /x HTTP/1.1\r\nCONTENT-TYPE:%b\r\n" % content_type
    assert read_form(head, MODEL + END).said.model == "tiny"
