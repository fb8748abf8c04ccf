from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllama.engine.logs import LINE_LIMIT_CHARS, READ_LIMIT_BYTES, LogReader, parse_line, read_tail


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (
            "(EngineCore pid=20) INFO 11-21 12:43:05 [core.py:402] init engine took 1 s",
            ("init engine took 1 s", "EngineCore pid=20", "INFO"),
        ),
        ("(Worker_TP0 pid=7) Loading shards: 50%", ("Loading shards: 50%", "Worker_TP0 pid=7", None)),
        ("ERROR 11-21 12:43:05 [utils.py:9] ", ("", None, "ERROR")),
        ("\x1b[0;36m(APIServer pid=1)\x1b[0;0m WARNING 11-21 12:43:05 [a.py:9] x", ("x", "APIServer pid=1", "WARNING")),
        ("INFO:     Application startup complete.", ("INFO:     Application startup complete.", None, None)),
        ("  File \"a.py\", line 3, in f", ("  File \"a.py\", line 3, in f", None, None)),
    ],
)  # fmt: skip
def test_the_prefix_is_taken_off(line: str, parts: tuple[str, str | None, str | None]) -> None:
    parsed = parse_line(line)
    assert (parsed.text, parsed.process, parsed.level) == parts


@given(st.text())
def test_any_line_is_parsed(line: str) -> None:
    parse_line(line)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "engine.log"


def append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


def test_it_hands_out_what_is_new_in_whole_lines(log: Path) -> None:
    reader = LogReader(log)
    assert reader.read() == ()
    append(log, b"one\ntw")
    assert reader.read() == ("one",)
    assert reader.read() == ()
    append(log, b"o\nthree\n")
    assert reader.read() == ("two", "three")


def test_half_a_line_is_a_sign_of_life(log: Path) -> None:
    reader = LogReader(log)
    append(log, b"Loading 10%\rLoading 20%\rLoad")
    assert reader.read() == ("Loading 10%", "Loading 20%")
    before = reader.seen_bytes
    append(log, b"ing 30%")
    assert reader.read() == ()
    assert reader.seen_bytes > before


def test_a_truncated_log_is_read_from_its_start(log: Path) -> None:
    reader = LogReader(log)
    append(log, b"a long first line\nhal")
    reader.read()
    log.write_bytes(b"new\n")
    assert reader.read() == ("new",)


def test_a_rotated_log_is_read_from_its_start(log: Path) -> None:
    reader = LogReader(log)
    append(log, b"old\n")
    reader.read()
    log.rename(log.with_suffix(".1"))
    append(log, b"new one\nnew two\n")
    assert reader.read() == ("new one", "new two")


def test_of_a_flood_the_latest_is_read_and_no_line_is_cut(log: Path) -> None:
    reader = LogReader(log)
    append(log, b"kept for later")
    reader.read()
    lines = [b"%08d" % i for i in range(READ_LIMIT_BYTES // 4)]
    append(log, b"\n".join(lines) + b"\n")
    read = reader.read()
    assert read[-1] == lines[-1].decode()
    assert list(read) == [line.decode() for line in lines[-len(read) :]]
    assert sum(len(line) + 1 for line in read) <= READ_LIMIT_BYTES
    assert reader.seen_bytes == log.stat().st_size
    append(log, b"after\n")
    assert reader.read() == ("after",)


def test_a_line_without_end_is_bounded(log: Path) -> None:
    reader = LogReader(log)
    append(log, b"x" * (3 * READ_LIMIT_BYTES))
    assert reader.read() == ()
    append(log, b"\n")
    assert all(len(line) <= LINE_LIMIT_CHARS for line in reader.read())


def test_a_log_that_cannot_be_read_is_empty(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent", Path("bad\0name")):
        assert LogReader(path).read() == ()
        assert read_tail(path) == ()


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_any_bytes_in_any_pieces_give_the_same_lines(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]
) -> None:
    log = tmp_path_factory.mktemp("log") / "engine.log"
    reader = LogReader(log)
    read: list[str] = []
    for part in (*parts, b"\n"):
        append(log, part)
        read += reader.read()
    assert tuple(read) == LogReader(log).read()


def test_the_tail_begins_with_a_whole_line(log: Path) -> None:
    append(log, b"first line\nsecond line\nunfinished")
    assert read_tail(log) == ("first line", "second line", "unfinished")
    assert read_tail(log, limit_bytes=25) == ("second line", "unfinished")
