"""A file while it changes: the last good version stays in force, whatever happens to the file."""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from watchfiles import awatch

from vllama.controller.manifest.config_file import ConfigFiles
from vllama.controller.manifest.content import read_content
from vllama.controller.manifest.load import Manifest, load_bytes
from vllama.controller.manifest.problems import ManifestInvalid, Problem

T = TypeVar("T")

_ABSENT = ""  # the digest of a file that is not there
_MAX_REREADS = 25  # of a file that somebody keeps writing to
_STEP_MS = 200  # the watching thread wakes so often while nothing happens; its default is four times that


class FileWatch(Generic[T]):
    """`current` is the last good version, `error` what is wrong with the file now, `generation` how many good
    versions were applied. While `generation` is 0 no good version was ever seen and `current` says nothing.

    The directory is watched, for a file that is renamed over or a swapped symlink is another file; and the content is
    compared every `poll_interval_s`, for network disks and swaps further up the path tell nobody. A change counts
    once two reads `settle_s` apart agree, so that a file half-written is not taken for a shorter one.
    """

    def __init__(
        self,
        path: Path,
        bell: Callable[[], None],
        *,
        read: Callable[[bytes | None], T],
        first: T,
        says_something: bool = False,
        nothing: str,
        poll_interval_s: float = 3.0,
        settle_s: float = 0.1,
    ) -> None:
        """`bell` rings in the event loop whenever `current` or `error` has changed.

        `read` is called in a thread with the content (None: no file) and raises ManifestInvalid. `first` is what holds
        until then; `says_something`: that came from a file which was there. `nothing`: how a file says so on purpose.
        """
        self._path = path
        self._bell = bell
        self._read = read
        self._nothing = nothing
        self._poll_interval_s = poll_interval_s
        self._settle_s = settle_s
        self._seen: str | None = None  # the digest that was judged last
        self._further: Mapping[Path, bytes | None] = {}  # other files that were read for it
        self._checking = asyncio.Lock()
        self._applied: str | None = None  # the digest of `current`
        self._said_something = says_something  # `current` is of a file that was there and not blank
        self.current = first
        self.error: ManifestInvalid | None = None
        self.unwatched: str | None = None  # why the directory cannot be watched, and the file is only looked at
        self.generation = 0

    async def run(self) -> None:
        """Until cancelled. No exception ends it; what goes wrong with the file shows in `error`."""
        while True:
            await self.check()
            try:
                await self._watch_directory()
                await asyncio.sleep(self._settle_s)
            except Exception as error:  # noqa: BLE001  no directory, or no watches left: the poll does without
                self.unwatched = f"{type(error).__name__}: {error}"
                await asyncio.sleep(self._poll_interval_s)

    async def check(self) -> None:
        """Look at the file now, and apply it where it changed and is good."""
        async with self._checking:
            try:
                await self._check()
            except Exception as error:  # noqa: BLE001  whatever it is, the next look may go better
                self._fail(error)

    async def _watch_directory(self) -> None:
        """Until the directory is another one than at the beginning."""
        directory = self._path.parent
        watched = await asyncio.to_thread(directory.stat)
        # Unfiltered: a directory busy with other files would keep filtered changes from ever timing out.
        changes = awatch(
            directory,
            watch_filter=None,
            step=_STEP_MS,
            rust_timeout=round(self._poll_interval_s * 1000),
            yield_on_timeout=True,
            recursive=False,
        )
        async for _ in changes:
            self.unwatched = None
            await self.check()
            present = await asyncio.to_thread(directory.stat)
            if (present.st_dev, present.st_ino) != (watched.st_dev, watched.st_ino):
                return

    async def _check(self) -> None:
        try:
            content, digest = await self._settled()
        except ManifestInvalid as invalid:
            self._judge(str(invalid), invalid)
            return
        if digest == self._seen:
            return
        if digest == self._applied:
            self._judge(digest, None)
            return
        blank = content is None or not content.strip()
        if blank and self._said_something:
            self._judge(digest, self._missing(content))
            return
        try:
            current = await asyncio.to_thread(self._read, content)
        except ManifestInvalid as invalid:
            self._judge(_digest(content, self._further), invalid)
            return
        digest = _digest(content, self._further)
        self.current, self._applied, self._said_something = current, digest, not blank
        self.generation += 1
        self._judge(digest, None)

    async def _settled(self) -> tuple[bytes | None, str]:
        """The content, and its digest, once it is the same twice; at once where nothing changed."""
        content, digest = await asyncio.to_thread(_read, self._path, self._further)
        for _ in range(_MAX_REREADS if digest != self._seen else 0):
            await asyncio.sleep(self._settle_s)
            before = digest
            content, digest = await asyncio.to_thread(_read, self._path, self._further)
            if digest == before:
                break
        return content, digest

    def _missing(self, content: bytes | None) -> ManifestInvalid:
        what = "the file is gone" if content is None else f"the file is empty (write {self._nothing})"
        text = f"{what}; the last good version stays in force"
        return ManifestInvalid([Problem(file=str(self._path), line=None, path=(), text=text)])

    def _fail(self, error: Exception) -> None:
        text = f"the file could not be checked: {type(error).__name__}: {error}"
        with contextlib.suppress(Exception):  # of the bell
            self._judge(text, ManifestInvalid([Problem(file=str(self._path), line=None, path=(), text=text)]))

    def _judge(self, seen: str, error: ManifestInvalid | None) -> None:
        if seen != self._seen:
            self._seen, self.error = seen, error
            self._bell()


class ManifestWatch(FileWatch[Manifest]):
    def __init__(
        self,
        path: Path,
        bell: Callable[[], None],
        *,
        environ: Mapping[str, str],
        poll_interval_s: float = 3.0,
        settle_s: float = 0.1,
    ) -> None:
        kept = dict(environ)

        def read(content: bytes | None) -> Manifest:
            configs = ConfigFiles()
            try:
                return load_bytes(content or b"", file=str(path), environ=kept, configs=configs)
            finally:
                self._further = configs.contents

        super().__init__(
            path, bell, read=read,
            first=Manifest(), nothing="`models: {}` for no models", poll_interval_s=poll_interval_s, settle_s=settle_s,
        )  # fmt: skip


def _read(path: Path, further: Iterable[Path]) -> tuple[bytes | None, str]:
    """The content of `path`, and the digest of it and of all that belongs to it."""
    content = read_content(path)
    return content, _digest(content, {each: _content(each) for each in further})


def _content(path: Path) -> bytes | None:
    try:
        return read_content(path)
    except ManifestInvalid:
        return None


def _digest(content: bytes | None, further: Mapping[Path, bytes | None]) -> str:
    one = _ABSENT if content is None else hashlib.sha256(content).hexdigest()
    if not further:
        return one
    others = [(str(path), None if said is None else hashlib.sha256(said).hexdigest()) for path, said in further.items()]
    return hashlib.sha256(repr((one, sorted(others))).encode()).hexdigest()
