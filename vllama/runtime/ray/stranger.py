"""Whether somebody without the token gets in: that the manager has one does not tell that it is asked for.

python -m vllama.runtime.ray.stranger ADDRESS     exit code 3: was refused; 0: got in; else: nobody knows
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import NoReturn

WITHIN_S = 30.0
ASK_WITHIN_S = 10.0
GOT_IN, REFUSED = 0, 3


def refuses_strangers(address: str, environ: Mapping[str, str]) -> bool:
    """Blocks. RuntimeError: that could not be seen."""
    without = {name: value for name, value in environ.items() if not name.startswith("RAY_")}
    without |= {"RAY_AUTH_MODE": "disabled", "HOME": "/nonexistent"}  # where Ray would look for a token
    asked = subprocess.run(
        [sys.executable, "-m", "vllama.runtime.ray.stranger", address], env=without, timeout=WITHIN_S, check=False,
        stdin=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip
    if asked.returncode in {GOT_IN, REFUSED}:
        return asked.returncode == REFUSED
    raise RuntimeError(f"whether Ray at {address} asks strangers for a token could not be seen")


def is_refused(address: str) -> bool:
    """Whether this process is, with the token it has or has not. Blocks; raises Ray's errors where nobody answers."""
    from ray._raylet import GcsClient  # noqa: PLC0415  # not where only `refuses_strangers` is wanted
    from ray.exceptions import AuthenticationError  # noqa: PLC0415

    try:
        GcsClient(address=address).internal_kv_get(b"vllama", namespace=b"vllama", timeout=ASK_WITHIN_S)
    except AuthenticationError:
        return True
    return False


def main(address: str) -> NoReturn:
    os._exit(REFUSED if is_refused(address) else GOT_IN)


if __name__ == "__main__":
    main(sys.argv[1])
