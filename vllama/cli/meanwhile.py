"""What a model goes through while somebody waits for its first word: on stderr, so that answers stay by themselves."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vllama.cli.client import AdminClient
from vllama.cli.failure import CommandFailed
from vllama.cli.progress import doing
from vllama.cli.terminal import is_coloured, width
from vllama.domain.status import Phase

FIRST_AFTER_S = 1.0  # who is ready answers sooner
LOOK_EVERY_S = 0.5


def told_meanwhile(
    client: AdminClient, model: str, chunks: Iterable[dict[str, Any]], *, first_after_s: float = FIRST_AFTER_S
) -> Iterator[dict[str, Any]]:
    """The chunks as they come. Until the first, a line on stderr says how far the model is: on a terminal always the
    same line, elsewhere one for each stage.
    """
    waiting = _Waiting(client, model, first_after_s)
    waiting.start()
    try:
        for chunk in chunks:
            waiting.end()
            yield chunk
    finally:
        waiting.end()


class _Waiting(threading.Thread):
    def __init__(self, client: AdminClient, model: str, first_after_s: float) -> None:
        super().__init__(name="meanwhile", daemon=True)
        self._client, self._model, self._pause_s = client, model, first_after_s
        self._over, self._on_one_line, self._told = threading.Event(), is_coloured(sys.stderr), ""
        self._began = time.monotonic()

    def end(self) -> None:
        """Nothing is written after this. Again: nothing happens."""
        if not self._over.is_set():
            self._over.set()
            self.join()

    def run(self) -> None:
        while not self._over.wait(self._pause_s):
            self._pause_s = LOOK_EVERY_S
            try:
                status = self._status()
            except CommandFailed:
                break  # who may call models may not have to do with their management
            if status is not None and not self._over.is_set():
                self._tell(status)
        if self._on_one_line and self._told:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _status(self) -> Mapping[str, Any] | None:
        """Of who is on its way; None: it is ready, or somebody else's."""
        every: list[Mapping[str, Any]] = self._client.status()["models"]
        named = (
            each for each in every if self._model in {each["model"], each["model"].split("/")[-1], *each["aliases"]}
        )
        return next((each for each in named if each["phase"] != Phase.READY), None)

    def _tell(self, status: Mapping[str, Any]) -> None:
        said = doing(status, elapsed_s=time.monotonic() - self._began)
        if self._on_one_line:
            columns = width(sys.stderr) or len(said)
            sys.stderr.write(f"\r\x1b[K{said[:columns]}")
            self._told = said
        elif (stage := f"{status['phase']} {status.get('stage')}") != self._told:
            sys.stderr.write(f"{said}\n")
            self._told = stage
        sys.stderr.flush()
