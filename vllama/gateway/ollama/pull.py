"""POST /api/pull: a download from the hub, told as it goes. When its client leaves, it ends with the file under way."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from vllama.controller.control import Control
from vllama.engine.hub import Download

EVERY_S = 0.5


async def pulling(control: Control, name: str, hub: Path) -> AsyncIterator[dict[str, Any]]:
    """What Ollama says of a pull: statuses, one of them with bytes; `success` or an error at the end."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def set_over() -> None:
        loop.call_soon_threadsafe(over.set)

    download = Download(name, hub, over=set_over)
    yield {"status": "pulling manifest"}
    download.begin()
    try:
        told: dict[str, Any] = {}
        while not over.is_set():
            if told != (told := await _progress(download, told)):
                yield told
            try:
                async with asyncio.timeout(EVERY_S):
                    await over.wait()
            except TimeoutError:
                continue
        if download.error is not None:
            yield {"error": download.error}
            return
        if download.total_bytes:
            yield _bytes(download, download.total_bytes)
        await control.rescan()
        yield {"status": "success"}
    finally:
        download.give_up()


async def _progress(download: Download, before: dict[str, Any]) -> dict[str, Any]:
    """The same again where nothing more can be said."""
    if not download.total_bytes:
        return before
    return _bytes(download, min(await asyncio.to_thread(download.completed_bytes), download.total_bytes))


def _bytes(download: Download, completed: int) -> dict[str, Any]:
    status = {"status": f"pulling {download.revision[:12]}", "digest": download.revision}
    return status | {"total": download.total_bytes, "completed": completed}
