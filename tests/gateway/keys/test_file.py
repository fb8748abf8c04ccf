import pytest

from vllama.controller.manifest import ManifestInvalid
from vllama.gateway.keys.file import load_entries, read_ring
from vllama.gateway.keys.key import Key, Scope, digest_of

H1, H2 = (f"sha256:{digest_of(secret).hex()}" for secret in (b"k1", b"k2"))


def ring(text: str | None, *, required: bool = False) -> object:
    return read_ring(None if text is None else text.encode(), file="keys.yaml", required=required)


def test_keys_by_their_hash() -> None:
    text = f"keys:\n  laptop: {{hash: '{H1}'}}\n  ops: {{hash: {H2}, scope: admin, added: 2026-11-21}}\n"
    assert ring(text) == {
        digest_of(b"k1"): Key(name="laptop", scope=Scope.MODELS),
        digest_of(b"k2"): Key(name="ops", scope=Scope.ADMIN),
    }


@pytest.mark.parametrize("text", ["keys: {}", "keys:", "keys: ~\n"])
def test_a_file_without_keys_lets_nobody_in(text: str) -> None:
    assert ring(text) == {}


def test_no_file_asks_nobody_unless_it_must_be_there() -> None:
    assert ring(None) is None
    with pytest.raises(ManifestInvalid, match="there is no such file; `vllama keys add"):
        ring(None, required=True)


SECRET = "sk-secret-of-somebody"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty; write `keys: {}`"),
        ("# nothing yet\n", "the file is empty"),
        (f"- {SECRET}", "keys.yaml: the file is a mapping `keys:`"),
        (f"{SECRET}: laptop", "keys.yaml: the file is a mapping `keys:`"),
        (f"keys: [{SECRET}]", "keys.yaml: the file is a mapping `keys:`"),
        (f"keys: {{}}\nkey: {SECRET}", "keys.yaml: the file is a mapping `keys:`"),
        (f"keys:\n  laptop: {SECRET}", "2: a key is written {hash"),
        (f"keys:\n  laptop: {{hash: {SECRET}}}", "2: `hash` is not `sha256:`"),
        (f"keys:\n  laptop: {{hash: '{H1.upper()}'}}", "2: `hash` is not"),
        (f"keys:\n  laptop: {{key: {SECRET}}}", "2: `hash` is missing"),
        (f"keys:\n  laptop: {{hash: '{H1}', key: {SECRET}}}", "2: a key has `hash`, `scope` and `added`"),
        (f"keys:\n  laptop: {{hash: '{H1}', scope: {SECRET}}}", "2: `scope` is models or admin"),
        (f"keys:\n  laptop: {{hash: '{H1}', added: {SECRET}}}", "2: `added` is not a date"),
        (f"keys:\n  'lap top {SECRET}': {{hash: '{H1}'}}", "2: a name has 1 to 64"),
        (f"keys:\n  a: {{hash: '{H1}'}}\n  b: {{hash: '{H1}'}}", "3: another name has the same hash"),
        (f"keys:\n  a: {{hash: '{H1}'}}\n  a: {{hash: '{H2}'}}", "3: .*is given twice"),
        (f"keys: {{a: {{hash: '{H1}'", "a '{' or '\\[' is not closed"),
        (f"keys: {{a: !!python/object:{SECRET} {{}}", "not closed"),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_without_what_stands_there(text: str, said: str) -> None:
    with pytest.raises(ManifestInvalid, match=said) as invalid:
        ring(text)
    assert SECRET not in str(invalid.value)


def test_a_file_that_cannot_be_read_is_no_absent_one(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert load_entries(tmp_path / "keys.yaml") is None
    (tmp_path / "keys.yaml").mkdir()
    with pytest.raises(ManifestInvalid, match="not a regular file"):
        load_entries(tmp_path / "keys.yaml")
