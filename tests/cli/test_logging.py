"""Log lines that nobody takes hold up nobody."""

import json
import logging
import os
import threading
import time

import pytest
import structlog

from tests.waiting import wait_until
from vllama.cli import logging as logs
from vllama.cli.logging import LOGGER, LogSettings, configure, to_file


@pytest.fixture
def logger():
    before, logger = structlog.get_config(), logging.getLogger(LOGGER)
    state = logger.handlers, logger.propagate, logger.level
    yield structlog.get_logger(LOGGER)
    structlog.configure(**before)
    logger.handlers, logger.propagate = state[0], state[1]
    logger.setLevel(state[2])


class Stuck(logging.Handler):
    """A pipe that nobody empties, until `go`."""

    def __init__(self):
        super().__init__()
        self.go, self.begun, self.written = threading.Event(), threading.Event(), []

    def emit(self, record):
        self.begun.set()
        self.go.wait(20)
        self.written.append(record.getMessage() if isinstance(record.msg, str) else record.msg["event"])


def test_a_screen_that_is_stuck_holds_up_neither_us_nor_the_file_and_loses_only_what_is_too_much(
    logger, tmp_path, monkeypatch
):
    monkeypatch.setattr(logs, "MOST_WAITING", 3)
    configure(LogSettings())
    stuck = Stuck()
    logging.getLogger(LOGGER).handlers = [stuck]
    stop = to_file(tmp_path / "vllama.log", LogSettings())
    logger.info("first")
    assert stuck.begun.wait(10)

    def in_file():
        return [json.loads(line)["event"] for line in (tmp_path / "vllama.log").read_text().splitlines()]

    for number in range(8):  # one at a time, as the file is not stuck
        logger.info("line %d", number)
        wait_until(lambda number=number: f"line {number}" in in_file(), what="the file to have it")
    stuck.go.set()
    wait_until(lambda: len(stuck.written) == 4, what="what waited to be written")
    logger.info("last")
    wait_until(lambda: len(stuck.written) == 6, what="the last line")
    stop()
    assert stuck.written[:4] == ["first", "line 0", "line 1", "line 2"]
    assert stuck.written[4].startswith("5 lines were lost here")
    assert stuck.written[5] == "last"


class Kept(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


def test_a_line_has_the_time_of_what_it_tells_however_late_it_is_written(logger):
    configure(LogSettings(format="json"))
    (screen,), kept = logging.getLogger(LOGGER).handlers, Kept()
    logging.getLogger(LOGGER).handlers = [kept]
    before = time.time()
    logger.info("said", model="org/A")
    after = time.time()
    (record,) = kept.records
    assert before <= record.created <= after
    record.created = 1_700_000_000.25
    said = {"event": "said", "level": "info", "model": "org/A", "timestamp": "2023-11-14T22:13:20.250000Z"}
    assert json.loads(screen.format(record)) == said
    configure(LogSettings(format="console"))
    (screen,) = logging.getLogger(LOGGER).handlers
    assert screen.format(record).startswith(time.strftime("%H:%M:%S [info", time.localtime(record.created)))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")  # noqa: PTH110
def test_a_disk_that_is_full_costs_lines_and_nothing_else(logger, tmp_path, capsys):
    configure(LogSettings())
    (tmp_path / "vllama.log").symlink_to("/dev/full")
    stop = to_file(tmp_path / "vllama.log", LogSettings(max_size_mb=1))
    for _ in range(100):
        logger.info("a line", text="x" * 200)
    stop()
    said = capsys.readouterr().err
    assert said.count("a line") == 100
    assert "Traceback" not in said
    assert "No space left" not in said
