"""Log lines: for eyes on a terminal, as JSON everywhere else. To standard error, so that pipes stay clean; and to a
file that is kept within bounds.
"""

import logging
import logging.handlers
import queue
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from vllama.domain.units import MIB

LOGGER = "vllama"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """`level` is of standard error. Files are at most `max_size_mb` MiB, the manager's and engines' alike."""

    level: str = "info"
    format: str = "auto"  # console or json; auto: console on a terminal
    file_level: str = "debug"
    access: bool = False  # a line for each request, to standard error
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
    """The file too, written in a thread of its own. What is returned ends that. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=settings.max_bytes, backupCount=settings.backup_count, encoding="utf-8"
    )
    handler.setLevel(settings.file_level.upper())
    handler.setFormatter(_as_json())
    waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    passed_on = _PassOn(waiting)
    passed_on.setLevel(settings.file_level.upper())
    listener = logging.handlers.QueueListener(waiting, handler, respect_handler_level=True)
    logger = logging.getLogger(LOGGER)
    logger.addHandler(passed_on)
    listener.start()

    def stop() -> None:
        logger.removeHandler(passed_on)
        listener.stop()
        handler.close()

    return stop


class _PassOn(logging.handlers.QueueHandler):
    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # as it is: it stays in this process, and its fields are wanted


def _as_json() -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ]
    )


def _for_eyes(*, colors: bool) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.dev.ConsoleRenderer(pad_event_to=22, colors=colors),
        ]
    )
