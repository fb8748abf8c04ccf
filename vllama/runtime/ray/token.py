"""Whether the cluster keeps strangers out: who may join it runs programs on every machine."""

from collections.abc import Mapping
from pathlib import Path

from vllama.runtime.base import RuntimeFailed

ASK_FOR_IT = "Start Ray on every machine with RAY_AUTH_MODE=token, or say --ray-insecure."

_HOW = """\
Whoever reaches such a cluster runs programs on all of its machines. Give every machine the same token:
  ray get-auth-token --generate                          # once; then the same ~/.ray/auth_token on each
  RAY_AUTH_MODE=token ray start ...                      # on each, and in the environment of vllama
Where nobody else can reach it: vllama serve --runtime ray --ray-insecure"""


def check_token(environ: Mapping[str, str]) -> None:
    """RuntimeFailed: Ray is told to do without, or there is no token."""
    mode = environ.get("RAY_AUTH_MODE", "").lower()
    if mode != "token":
        raise RuntimeFailed(f"Ray is not told to ask for a token (RAY_AUTH_MODE={mode or 'unset'}).\n{_HOW}")
    if not _has_token(environ):
        raise RuntimeFailed(f"There is no token for Ray (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH).\n{_HOW}")


def _has_token(environ: Mapping[str, str]) -> bool:
    if environ.get("RAY_AUTH_TOKEN"):
        return True
    home = Path(environ.get("HOME") or Path.home())
    path = Path(environ.get("RAY_AUTH_TOKEN_PATH") or home / ".ray" / "auth_token")
    try:
        return bool(path.read_text().strip())
    except OSError:
        return False
