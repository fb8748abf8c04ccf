"""A file's content, within reason."""

import stat
from pathlib import Path

from vllama.controller.manifest.marks import MAX_TEXT_BYTES
from vllama.controller.manifest.problems import ManifestInvalid, Problem


def read_content(path: Path) -> bytes | None:
    """None: there is no such file. ManifestInvalid where it cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ManifestInvalid([Problem(file=str(path), line=None, path=(), text="this is not a regular file")])
        with path.open("rb") as file:
            return file.read(MAX_TEXT_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        text = f"the file cannot be read: {error.strerror or error}"
        raise ManifestInvalid([Problem(file=str(path), line=None, path=(), text=text)]) from None
