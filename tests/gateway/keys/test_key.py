import re

import pytest

from vllama.gateway.headers import Header
from vllama.gateway.keys.key import digest_of, new_secret, shown


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer k1")],
        [(b"authorization", b"bearer  k1")],
        [(b"x-api-key", b"k1")],
        [(b"api-key", b"k1")],
        [(b"host", b"x"), (b"api-key", b"other"), (b"x-api-key", b"other"), (b"authorization", b"BEARER k1")],
        [(b"api-key", b"other"), (b"x-api-key", b"k1")],
        [(b"authorization", b"Basic dTpw"), (b"x-api-key", b"k1")],  # of a proxy in front
        [(b"authorization", b"Bearer "), (b"x-api-key", b"k1")],
        [(b"x-api-key", b"k1"), (b"x-api-key", b"other")],
    ],
)
def test_a_key_is_shown_in_any_of_the_usual_headers(headers: list[Header]) -> None:
    assert shown(headers) == digest_of(b"k1")


@pytest.mark.parametrize("headers", [[], [(b"authorization", b"k1")], [(b"authorization", b"Basic k1")]])
def test_anything_else_is_none(headers: list[Header]) -> None:
    assert shown(headers) is None


def test_new_keys_are_long_random_and_known_by_their_beginning() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"vllama-[A-Za-z0-9_-]{43}", secret) for secret in made)
