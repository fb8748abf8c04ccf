"""A model fetched from a hub into the Hugging Face cache, in pieces that are kept: what was broken off goes on.

Large files are fetched here, from where the last attempt ended, and checked against their SHA-256: huggingface_hub, in
newer versions, begins a file that was broken off anew. It finds these, fetches the rest, and lays out the snapshot. The
reference, `refs/main`, comes last: what it names is complete.
"""

import contextlib
import glob
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx

from vllama.domain.units import format_bytes
from vllama.engine.listing import Listing, PullFailed, RemoteFile, why_not
from vllama.engine.resuming import Stopped, fetch

AT_ONCE = 4
LARGEST_BYTES = 50 * 10**9  # over plain HTTP; what is larger comes by the hub's own protocol
HEADROOM_BYTES = 256 << 20
_SILENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    done_bytes: int
    total_bytes: int


class Download:
    """`run` blocks, in a thread of its own; `stop` and `progress` are for others."""

    def __init__(self, listing: Listing, hub: Path, *, endpoint: str, token: str | None) -> None:
        self.listing = listing
        self.repository = hub / f"models--{listing.model.replace('/', '--')}"
        self.snapshot = self.repository / "snapshots" / listing.commit
        self._hub, self._endpoint, self._token = hub, endpoint, token
        self._stop = threading.Event()

    def stop(self) -> None:
        """What is here stays; the next download of it goes on from there."""
        self._stop.set()

    def progress(self) -> Progress:
        """Blocks on the file system."""
        return Progress(
            done_bytes=sum(done for done, _ in self.files().values()), total_bytes=self.listing.size_bytes
        )  # fmt: skip

    def files(self) -> dict[str, tuple[int, int]]:
        """Name -> bytes here and bytes in all. Blocks on the file system."""
        return {file.name: (self._here(file), file.size_bytes) for file in self.listing.files}

    def check_room(self) -> None:
        """PullFailed where the disk has no room for what is still to come."""
        progress = self.progress()
        to_come = progress.total_bytes - progress.done_bytes
        place = next(path for path in (self._hub, *self._hub.absolute().parents) if path.exists())
        free = shutil.disk_usage(place).free
        if to_come and to_come + HEADROOM_BYTES > free:
            raise PullFailed(
                f"{self.listing.model} needs {format_bytes(to_come)} more on the disk of {self._hub}, which has "
                f"{format_bytes(free)} left.\n  Make room (`vllama list` shows sizes, `vllama rm` removes a model), or "
                "set HF_HOME to a directory on a larger disk."
            )

    def run(self) -> None:
        """PullFailed says why not; Stopped, after `stop`."""
        try:
            self.snapshot.mkdir(parents=True, exist_ok=True)  # what is unfinished is seen to be of this one
            self._fetch_large()
            self._fetch_rest()
            self._refer()
        except OSError as error:
            raise PullFailed(_about_disk(error, self._hub)) from error

    def _here(self, file: RemoteFile) -> int:
        blob = self.repository / "blobs" / file.blob
        if blob.exists() or (self.snapshot / file.name).exists():
            return file.size_bytes
        try:
            found = partial_of(blob).stat()
        except OSError:
            return 0
        return min(found.st_size, found.st_blocks * 512, max(0, file.size_bytes - 1))  # some leave holes to fill

    def _fetch_large(self) -> None:
        large = [file for file in self.listing.files if file.sha256 and file.size_bytes <= LARGEST_BYTES]
        large = [file for file in large if not (self.snapshot / file.name).exists()]
        headers = {"accept-encoding": "identity"} | ({"authorization": f"Bearer {self._token}"} if self._token else {})
        timeout = httpx.Timeout(_SILENCE_S, connect=10.0)
        waiting, failures = iter(large), list[Exception]()
        taking = threading.Lock()
        with httpx.Client(follow_redirects=True, timeout=timeout, headers=headers) as http:

            def work() -> None:
                while not self._stop.is_set():
                    with taking:
                        file = next(waiting, None)
                    if file is None:
                        return
                    try:
                        self._fetch_one(http, file)
                    except Exception as error:  # noqa: BLE001  # it is raised where somebody waits for it
                        failures.append(error)
                        self._stop.set()  # the others end with the bytes under way

            # daemons: a program that ends does not wait for a hub that says nothing
            threads = [threading.Thread(target=work, name="pull", daemon=True) for _ in large[:AT_ONCE]]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if failures:
            raise failures[0]  # which is why the others stopped

    def _fetch_one(self, http: httpx.Client, file: RemoteFile) -> None:
        blob = self.repository / "blobs" / file.blob
        lock = self._hub / ".locks" / self.repository.name / f"{file.blob}.lock"  # as huggingface_hub has it
        url = f"{self._endpoint}/{self.listing.model}/resolve/{self.listing.commit}/{quote(file.name)}"
        try:
            fetch(http, url, file, blob, partial=partial_of(blob), lock=lock, stop=self._stop)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PullFailed(self._why_not(error)) from error

    def _fetch_rest(self) -> None:
        import huggingface_hub  # noqa: PLC0415  # half a second that only a download is worth
        from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415

        if self._stop.is_set():
            raise Stopped
        disable_progress_bars()
        try:
            huggingface_hub.snapshot_download(
                self.listing.model,
                revision=self.listing.commit,
                cache_dir=self._hub,
                endpoint=self._endpoint,
                token=self._token or False,
                allow_patterns=[glob.escape(file.name) for file in self.listing.files],
            )
        except Exception as error:  # what it raises depends on its version and on whom it asks through
            raise PullFailed(self._why_not(error)) from error

    def _refer(self) -> None:
        if self.listing.revision == self.listing.commit:
            return
        reference = self.repository / "refs" / self.listing.revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        fresh = reference.with_name(f"{reference.name}.new")
        fresh.write_text(self.listing.commit)
        fresh.replace(reference)

    def _why_not(self, error: BaseException) -> str:
        if isinstance(error, OSError) and error.errno is not None:
            return _about_disk(error, self._hub)
        listing = self.listing
        return why_not(error, model=listing.model, revision=listing.revision, endpoint=self._endpoint)


def partial_of(blob: Path) -> Path:
    """The part of a file that is here; older huggingface_hubs go on from it too."""
    return blob.with_name(f"{blob.name}.incomplete")


def tidy(repository: Path, *, before: float) -> None:
    """Remove what downloads by other programs left lying, if nobody wrote to it since `before` (of the wall clock)."""
    for path in (repository / "blobs").glob("*.incomplete"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < before:
                path.unlink()


def _about_disk(error: OSError, hub: Path) -> str:
    where = error.filename or hub
    return f"{where} cannot be written: {error.strerror or error}."
