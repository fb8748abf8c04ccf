"""A model fetched from the Hugging Face hub into the cache, by huggingface_hub itself, in a thread of its own."""

import contextlib
import re
import threading
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

_NAME = re.compile(r"(?:(?:https?://)?(?:hf\.co|huggingface\.co)/)?((?:[\w.-]{1,96}/)?[\w.-]{1,96})")
# Beside safetensors nobody loads these.
_OTHER_FORMATS = ("*.bin", "*.pth", "*.pt", "*.h5", "*.msgpack", "*.onnx", "*.gguf", "*.ot", "*.ckpt")
_NEVER = ("*.md", ".gitattributes", "original/*", "onnx/*", "*.mlmodel", "*.tflite")


def hub_name(text: str) -> str | None:
    """The id that a hub knows, from the ways in which people write it; None: it is none."""
    found = _NAME.fullmatch(text.removesuffix(":latest"))
    return None if found is None or ".." in found[1] else found[1]


class Download:
    """`begin`, then ask now and then. It is over when `over` was called: from its thread, with or without `error`."""

    def __init__(self, name: str, hub: Path, *, over: Callable[[], None]) -> None:
        self.name = name
        self.total_bytes: int | None = None  # not known yet
        self.revision = ""
        self.error: str | None = None
        self._hub = hub
        self._over = over
        self._blobs: list[Path] = []
        self._given_up = False

    def begin(self) -> None:
        threading.Thread(target=self._run, name=f"pull {self.name}", daemon=True).start()

    def give_up(self) -> None:
        """Ends with the file under way; what is there stays, and the next one goes on from it."""
        self._given_up = True

    def completed_bytes(self) -> int:
        """Blocks on the file system."""
        return sum(map(_size, self._blobs))

    def _run(self) -> None:
        try:
            self._fetch()
        except Exception as error:  # noqa: BLE001  # whatever it is, whoever waits is told
            self.error = _sentence(self.name, error)
        self._over()

    def _fetch(self) -> None:
        import huggingface_hub as hf  # noqa: PLC0415  # half a second that only a download is worth

        wanted = hf.HfApi().model_info(self.name, files_metadata=True)
        self.revision = str(wanted.sha)
        siblings = list(wanted.siblings or ())
        names = [sibling.rfilename for sibling in siblings]
        ignored = list(_NEVER) + (list(_OTHER_FORMATS) if any(n.endswith(".safetensors") for n in names) else [])
        chosen = {name for name in names if not any(fnmatchcase(name, pattern) for pattern in ignored)}
        repository = self._hub / f"models--{self.name.replace('/', '--')}"
        sizes = {_digest(one): int(one.size or 0) for one in siblings if one.rfilename in chosen}
        self._blobs = [repository / "blobs" / digest for digest in sizes]
        self.total_bytes = sum(sizes.values())
        for name in sorted(chosen):
            if self._given_up:
                return
            hf.hf_hub_download(self.name, name, revision=self.revision, cache_dir=self._hub)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(self.revision)  # only now: what is named so is complete


def _digest(sibling: Any) -> str:
    """What the cache calls a file, and `.incomplete` behind it while it comes."""
    lfs = sibling.lfs
    return str(sibling.blob_id if lfs is None else lfs["sha256"] if isinstance(lfs, dict) else lfs.sha256)


def _size(blob: Path) -> int:
    """Of one that is still to come what is written: it may have holes."""
    with contextlib.suppress(OSError):
        return blob.stat().st_size
    with contextlib.suppress(OSError):
        found = blob.with_name(f"{blob.name}.incomplete").stat()
        return min(found.st_size, found.st_blocks * 512)
    return 0


def _sentence(name: str, error: Exception) -> str:
    kind = type(error).__name__
    if kind == "GatedRepoError":
        return f"{name} is gated: accept its terms on the hub, and give vllama serve an HF_TOKEN that may read it"
    if kind == "RepositoryNotFoundError":
        return (
            f"the hub has no model {name}, or a private one that needs an HF_TOKEN in the environment of vllama serve"
        )
    first = str(error).strip().partition("\n")[0]
    return f"{name} could not be fetched: {first or kind}"
