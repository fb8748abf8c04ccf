#!/usr/bin/env python3
"""The health check of the container: asks /health where the server said that it listens. Exit code 0: it serves."""

import json
import os
import ssl
import sys
import urllib.request
from pathlib import Path

config_dir = Path(os.environ.get("VLLAMA_CONFIG_DIR") or "~/.vllama").expanduser()
try:
    url = json.loads((config_dir / "server.pid").read_text())["url"]
    # our own address: no proxy leads there, and its certificate is made out to the name that clients use
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=ssl._create_unverified_context()),  # noqa: S323, SLF001
    )
    with opener.open(f"{url}/health", timeout=8) as answer:
        print(answer.read(4096).decode())
except (OSError, ValueError, KeyError) as error:  # of a 503, too: HTTPError is an OSError
    sys.exit(f"unhealthy: {error}")
