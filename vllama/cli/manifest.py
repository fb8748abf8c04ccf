"""models.yaml of this machine, as commands read and change it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from vllama.cli.failure import CommandFailed
from vllama.controller.manifest import Manifest, ManifestInvalid, load
from vllama.controller.manifest.beside import CannotEdit
from vllama.controller.manifest.edit import Edit, preview


def manifest(path: Path) -> Manifest:
    """CommandFailed with all that is wrong with it."""
    with problems(path):
        return load(path, environ=os.environ)


@contextlib.contextmanager
def problems(path: Path) -> Iterator[None]:
    """What stands in the way of a change, as CommandFailed. It is raised before anything is written."""
    try:
        yield
    except CannotEdit as error:
        raise CommandFailed(str(error)) from None
    except ManifestInvalid as invalid:
        raise CommandFailed(f"models.yaml would not be valid; nothing was changed.\n{invalid}") from None
    except OSError as error:
        raise CommandFailed(f"{error.filename or path} cannot be changed: {error.strerror or error}.") from None


def without_auto_start(path: Path, model: str) -> Edit:
    """The key goes; where the defaults say true, it says false."""
    edit = Edit(model=model, drop=(("auto_start",),))
    spec = preview(path, edit, environ=os.environ).new.models.get(model)
    return edit if spec is None or not spec.auto_start else Edit(model=model, put={("auto_start",): False})
