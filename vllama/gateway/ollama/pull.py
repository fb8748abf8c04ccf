"""POST /api/pull: a download from the hub, told as it goes. When its client leaves it ends; the next goes on there."""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

from vllama.controller.control import Control
from vllama.engine.download import Download
from vllama.engine.listing import PullFailed, endpoint_of, look_up, own_token
from vllama.engine.resuming import Stopped

EVERY_S = 0.5


async def pulling(control: Control, name: str, hub: Path) -> AsyncGenerator[dict[str, Any]]:
    """What Ollama says of a pull: statuses, one of them with bytes; `success` or an error at the end."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def set_over() -> None:
        with contextlib.suppress(RuntimeError):  # the server is gone
            loop.call_soon_threadsafe(over.set)

    fetching = _Fetching(name, hub, over=set_over)
    yield {"status": "pulling manifest"}
    fetching.begin()
    try:
        told: dict[str, Any] | None = None
        while not over.is_set():
            said = await asyncio.to_thread(fetching.said)
            if said is not None and said != told:
                told = said
                yield said
            try:
                async with asyncio.timeout(EVERY_S):
                    await over.wait()
            except TimeoutError:
                continue
        if fetching.error is not None:
            yield {"error": fetching.error}
            return
        if (said := await asyncio.to_thread(fetching.said)) is not None:
            yield said
        await control.rescan()
        yield {"status": "success"}
    finally:
        fetching.stop()


class _Fetching:
    """In a thread of its own. It is over when `over` was called: from there, with or without `error`."""

    def __init__(self, name: str, hub: Path, *, over: Callable[[], None]) -> None:
        self.error: str | None = None
        self._name, self._hub, self._over = name, hub, over
        self._download: Download | None = None
        self._stopped = False

    def begin(self) -> None:
        threading.Thread(target=self._run, name=f"pull {self._name}", daemon=True).start()

    def stop(self) -> None:
        self._stopped = True
        if self._download is not None:
            self._download.stop()

    def said(self) -> dict[str, Any] | None:
        """How far it is; None: not known yet. Blocks on the file system."""
        if self._download is None:
            return None
        commit, progress = self._download.listing.commit, self._download.progress()
        status = {"status": f"pulling {commit[:12]}", "digest": commit}
        return status | {"total": progress.total_bytes, "completed": progress.done_bytes}

    def _run(self) -> None:
        try:
            self._fetch()
        except PullFailed as failed:
            self.error = " ".join(str(failed).split())
        except Stopped:
            self.error = "the pull was given up"
        except Exception as error:  # noqa: BLE001  # whatever it is, whoever waits is told
            self.error = f"{self._name} could not be fetched: {type(error).__name__}: {error}"
        self._over()

    def _fetch(self) -> None:
        endpoint, token = endpoint_of(os.environ), own_token()
        listing = look_up(self._name, revision=None, endpoint=endpoint, token=token)
        download = Download(listing, self._hub, endpoint=endpoint, token=token)
        download.check_room()
        self._download = download
        if self._stopped:
            download.stop()
        download.run()
