"""Log lines: for eyes on a terminal, as JSON everywhere else. To standard error, so that pipes stay clean; and to a
file that is kept within bounds.
"""

import contextlib
import logging
import logging.handlers
import queue
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from structlog.typing import EventDict

from vllama.domain.units import MIB

LOGGER = "vllama"
MOST_WAITING = 10_000  # lines, to be written
LAST_LINES_WITHIN_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """`level` is of standard error. Files are at most `max_size_mb` MiB, the manager's and engines' alike."""

    level: str = "info"
    format: str = "auto"  # console or json; auto: console on a terminal
    file_level: str = "debug"
    access: bool = False  # a line for each request, to standard error
    recording: bool = False  # when which model was asked for, and for how long, to requests.csv
    max_size_mb: int = 10
    backup_count: int = 5

    @property
    def for_eyes(self) -> bool:
        return self.format == "console" or (self.format == "auto" and sys.stderr.isatty())

    @property
    def max_bytes(self) -> int:
        return self.max_size_mb * MIB


def configure(settings: LogSettings) -> None:
    """To standard error only, until `to_file`."""
    logging.raiseExceptions = False  # a terminal that is gone, a disk that is full: no reason to say more
    screen = logging.StreamHandler(sys.stderr)
    screen.setLevel(settings.level.upper())
    screen.setFormatter(_for_eyes(colors=sys.stderr.isatty()) if settings.for_eyes else _as_json())
    logger = logging.getLogger(LOGGER)
    logger.handlers, logger.propagate = [screen], False
    names = logging.getLevelNamesMapping()
    least = min(names[settings.level.upper()], names[settings.file_level.upper()])
    logger.setLevel(least)
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def to_file(path: Path, settings: LogSettings) -> Callable[[], None]:
    """The file too; and from now on both are written in threads of their own: a terminal that is stopped, a pipe that
    nobody empties and a disk that hangs hold up nobody else. What is returned ends that. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=settings.max_bytes, backupCount=settings.backup_count, encoding="utf-8"
    )
    handler.setLevel(settings.file_level.upper())
    handler.setFormatter(_as_json())
    logger = logging.getLogger(LOGGER)
    screens = list(logger.handlers)
    besides = [_Beside(each) for each in (*screens, handler)]
    logger.handlers = list(besides)

    def stop() -> None:
        logger.handlers = screens
        for beside in besides:
            beside.end()
        with contextlib.suppress(OSError):  # a disk that is full
            handler.close()

    return stop


class _Beside(logging.handlers.QueueHandler):
    """Hands lines to a thread that writes them. Of those that it is too slow for, the newest are lost, and counted."""

    def __init__(self, handler: logging.Handler) -> None:
        self._waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(maxsize=MOST_WAITING)
        super().__init__(self._waiting)
        self.setLevel(handler.level)
        self._handler, self._lost = handler, 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # as it is: it stays in this process, and its fields are wanted

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            if self._lost:
                self._waiting.put_nowait(_lost(self._lost))
                self._lost = 0
            self._waiting.put_nowait(record)
        except queue.Full:
            self._lost += 1

    def end(self) -> None:
        """All that waits is written, if that can be done within a moment."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=LAST_LINES_WITHIN_S)
            self._thread.join(LAST_LINES_WITHIN_S)

    def _write(self) -> None:
        while (record := self._waiting.get()) is not None:
            self._handler.handle(record)


def _lost(count: int) -> logging.LogRecord:
    text = f"{count} lines were lost here: they came faster than they could be written."
    return logging.LogRecord(LOGGER, logging.WARNING, "", 0, text, None, None)


def _as_json() -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        processors=[
            _iso,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ]
    )


def _for_eyes(*, colors: bool) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        processors=[
            _short,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.dev.ConsoleRenderer(pad_event_to=22, colors=colors),
        ]
    )


def _iso(_logger: object, _name: str, said: EventDict) -> EventDict:
    return {**said, "timestamp": f"{_happened(said):%Y-%m-%dT%H:%M:%S.%fZ}"}


def _short(_logger: object, _name: str, said: EventDict) -> EventDict:
    return {**said, "timestamp": f"{_happened(said).astimezone():%H:%M:%S}"}


def _happened(said: EventDict) -> datetime:
    """Not when it is written, which may be much later."""
    record: logging.LogRecord = said["_record"]
    return datetime.fromtimestamp(record.created, UTC)
