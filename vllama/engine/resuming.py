"""One large file over HTTP, from where the last attempt ended, checked against its SHA-256. Blocks."""

import contextlib
import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import httpx

from vllama.domain.units import MIB
from vllama.engine.listing import PullFailed, RemoteFile

TRIES = 6  # in a row without a single byte
PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


class Stopped(Exception):
    """Somebody asked for that; what is here stays."""


def fetch(
    http: httpx.Client,
    url: str,
    file: RemoteFile,
    blob: Path,
    *,
    partial: Path,
    lock: Path,
    stop: threading.Event,
    pause_s: float = PAUSE_S,
) -> None:
    """`blob` is there when this returns. httpx.HTTPError where the hub is not reached or refuses; PullFailed where it
    sends something else; Stopped when `stop` is set; OSError.
    """
    blob.parent.mkdir(parents=True, exist_ok=True)
    with _locked(lock, stop):
        if blob.exists():
            return
        for _ in range(2):
            _complete(http, url, file, partial, stop=stop, pause_s=pause_s)
            if _digest(partial, stop) == file.sha256:
                partial.replace(blob)
                return
            partial.unlink()  # what was here before was of something else, or had holes
        raise PullFailed(
            f"{file.name} came twice with other content than the hub says it has.\n"
            "  A proxy or mirror in between may answer for it: try another (HTTPS_PROXY, HF_ENDPOINT)."
        )


def _complete(
    http: httpx.Client, url: str, file: RemoteFile, partial: Path, *, stop: threading.Event, pause_s: float
) -> None:
    failures = 0
    partial.touch()
    with partial.open("r+b") as out:
        have = out.seek(0, os.SEEK_END)
        if have > file.size_bytes:
            have = _emptied(out)
        while have < file.size_bytes:
            failed: httpx.HTTPError = httpx.RemoteProtocolError(f"the hub sent less of {file.name} than there is")
            try:
                _receive(http, url, file, out, stop)
            except httpx.HTTPStatusError as error:
                if error.response.status_code not in _LATER:
                    raise
                failed = error
            except httpx.TransportError as error:
                failed = error
            failures = 0 if out.tell() > have else failures + 1
            have = out.tell()
            if failures >= TRIES:
                raise failed
            if have < file.size_bytes and stop.wait(min(LONGEST_PAUSE_S, pause_s * 2**failures)):
                raise Stopped


def _receive(http: httpx.Client, url: str, file: RemoteFile, out: BinaryIO, stop: threading.Event) -> None:
    have = out.tell()
    with http.stream("GET", url, headers={"range": f"bytes={have}-"} if have else {}) as response:
        response.raise_for_status()
        if have and not _goes_on(response, have):
            _emptied(out)
        for piece in response.iter_raw():
            if stop.is_set():
                raise Stopped
            out.write(piece[: file.size_bytes - out.tell()])
            if out.tell() >= file.size_bytes:
                return


def _emptied(out: BinaryIO) -> int:
    out.truncate(0)
    return out.seek(0)


def _goes_on(response: httpx.Response, have: int) -> bool:
    """Some send it all, whatever was asked."""
    return response.status_code == 206 and response.headers.get("content-range", "").startswith(f"bytes {have}-")


def _digest(path: Path, stop: threading.Event) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(4 * MIB):
            if stop.is_set():
                raise Stopped
            digest.update(piece)
    return digest.hexdigest()


@contextlib.contextmanager
def _locked(path: Path, stop: threading.Event) -> Iterator[None]:
    """One at a time, huggingface_hub's own downloads included. On a disk that knows no locks: as if there were none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if stop.wait(0.5):
                    raise Stopped from None
            except OSError:
                break
        yield
