"""Golden files: the expected text lies beside the test. GOLDEN=write writes what comes out now; then read it."""

import os
from pathlib import Path


def matches(path: Path, text: str) -> bool:
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text + "\n")
    assert text + "\n" == path.read_text()
    return True
