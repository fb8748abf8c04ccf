"""A cluster that everybody may join is not joined unless that is said."""

import pytest

from vllama.runtime.base import RuntimeFailed
from vllama.runtime.ray.token import check_token


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "RAY_AUTH_MODE=unset"),
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "x"}, "RAY_AUTH_MODE=disabled"),
        ({"RAY_AUTH_MODE": "token"}, "There is no token"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/nowhere"}, "There is no token"),
    ],
)
def test_without_a_token_it_says_how_to_have_one(environ, said, tmp_path):
    with pytest.raises(RuntimeFailed, match=said) as refusal:
        check_token({"HOME": str(tmp_path), **environ})
    assert "ray get-auth-token --generate" in str(refusal.value)
    assert "--ray-insecure" in str(refusal.value)


def test_a_token_in_the_environment_in_a_file_or_where_ray_keeps_it(tmp_path):
    check_token({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "x"})
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("x\n")
    check_token({"RAY_AUTH_MODE": "TOKEN", "HOME": str(tmp_path)})
    check_token({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / ".ray" / "auth_token"), "HOME": "/"})
