"""Log lines: for eyes on a terminal, as JSON everywhere else. To standard error, so that pipes stay clean."""

import logging
import sys

import structlog


def configure(level: str) -> None:
    """`level` as in logging: debug, info, warning, error."""
    on_tty = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(pad_event_to=22) if on_tty else structlog.processors.JSONRenderer()
    )
    stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S" if on_tty else "iso", utc=not on_tty)
    structlog.configure(
        processors=[structlog.processors.add_log_level, stamp, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
