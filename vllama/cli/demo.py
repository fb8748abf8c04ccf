"""`vllama demo`: the whole thing on made-up devices, with three calls to try."""

import socket
import tempfile
from importlib.resources import files
from pathlib import Path

from vllama.cli import serve
from vllama.cli.logging import LogSettings

DEVICES = "2x24GiB"

CALLS = """
Engines, devices and answers are made up; everything else is real. Try, in another terminal:

  1. Call a model that does not run. Its answer streams as soon as its engine is up.
     curl -N {url}/v1/chat/completions \\
       -H 'Content-Type: application/json' \\
       -d '{{"model": "coder", "stream": true, "max_tokens": 24,
            "messages": [{{"role": "user", "content": "Hi"}}]}}'

  2. Call one that does not fit beside the others. Somebody has to make room.
     curl {url}/v1/chat/completions \\
       -H 'Content-Type: application/json' \\
       -d '{{"model": "chat-large", "max_tokens": 24,
            "messages": [{{"role": "user", "content": "Hi"}}]}}'

  3. See what runs, and ask why.
     {vllama} ps --server {url}
     {vllama} plan --server {url}
     In a browser: {url}/ui

Ctrl-C stops the demo and everything that it started.
"""


def run(*, port: int, log_level: str) -> None:
    """Serves from a directory of its own that is gone afterwards. Raises CannotServe."""
    with tempfile.TemporaryDirectory(prefix="vllama-demo-") as directory:
        config_dir = Path(directory)
        (config_dir / "models.yaml").write_text((files("vllama.cli") / "demo.yaml").read_text())
        port = port if _is_free(port) else 0
        serve.run(
            host="127.0.0.1", port=port, config_dir=config_dir, simulate=DEVICES,
            logs=LogSettings(level=log_level), say=_calls
        )  # fmt: skip


def _calls(url: str) -> str:
    local = Path(".venv/bin/vllama")
    return CALLS.format(url=url, vllama=local if local.exists() else "vllama")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
