"""A log that somebody holds open and appends to, kept under its bound."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.waiting import async_wait_until
from vllama.engine.logs import LogReader, read_tail
from vllama.runtime.local.rotation import keep_bounded, rotate, rotate_all


def test_who_holds_the_file_open_goes_on_at_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with path.open("ab", buffering=0) as engine:
        engine.write(b"one\n" * 100)
        rotate(path, backups=2)
        engine.write(b"two\n")
        assert path.read_bytes() == b"two\n"  # no hole before it
        assert (tmp_path / "a.log.1").read_bytes() == b"one\n" * 100
        rotate(path, backups=2)
        engine.write(b"three\n")
        rotate(path, backups=2)
    assert [(tmp_path / f"a.log.{n}").read_bytes() for n in (1, 2)] == [b"three\n", b"two\n"]
    assert not (tmp_path / "a.log.3").exists()
    assert path.read_bytes() == b""


def test_without_backups_it_only_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 100)
    rotate(path, backups=0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.log"]
    assert path.stat().st_size == 0


def test_only_what_is_too_large_and_no_log_of_the_managers(tmp_path: Path) -> None:
    for name, size in (("a.log", 11), ("b.log", 10), ("vllama.log", 99), ("a.txt", 99)):
        (tmp_path / name).write_bytes(b"x" * size)
    rotate_all(tmp_path, max_bytes=10, backups=1)
    assert {entry.name: entry.stat().st_size for entry in tmp_path.iterdir()} == {
        "a.log": 0, "a.log.1": 11, "b.log": 10, "vllama.log": 99, "a.txt": 99,
    }  # fmt: skip
    rotate_all(tmp_path / "nowhere", max_bytes=10, backups=1)


def test_a_copy_that_cannot_be_written_leaves_the_log_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 100)
    (tmp_path / "a.log.1").symlink_to("/dev/full")
    rotate(path, backups=1)
    assert path.stat().st_size == 0
    assert not (tmp_path / "a.log.1").is_symlink()


def test_a_real_process_that_writes_all_the_time_stays_under_the_bound(tmp_path: Path) -> None:
    path, bound = tmp_path / "a.log", 64 << 10
    code = "import sys\nfor n in range(10**9): sys.stdout.write(f'line {n}\\n'); n % 50 or sys.stdout.flush()"

    async def watch() -> None:
        keeper = asyncio.create_task(_often(tmp_path, bound))
        try:
            await async_wait_until(_true_of((tmp_path / "a.log.3").exists), what="three rotations")
        finally:
            keeper.cancel()

    with path.open("ab") as log:
        engine = subprocess.Popen([sys.executable, "-c", code], stdout=log)
    try:
        asyncio.run(watch())
    finally:
        engine.kill()
        engine.wait()
    assert b"\0" not in path.read_bytes()
    numbers = [int(line[5:]) for line in (tmp_path / "a.log.2").read_text().splitlines()[1:-1]]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


async def _often(directory: Path, bound: int) -> None:
    while True:
        await asyncio.to_thread(rotate_all, directory, max_bytes=bound, backups=3)


def _true_of(condition):
    async def asked() -> bool:
        return condition()

    return asked


def test_the_keeper_keeps_looking(tmp_path: Path) -> None:
    async def run() -> None:
        keeper = asyncio.create_task(keep_bounded(tmp_path, max_bytes=10, backups=1))
        (tmp_path / "a.log").write_bytes(b"x" * 11)
        await async_wait_until(_true_of((tmp_path / "a.log.1").exists))
        keeper.cancel()

    asyncio.run(run())


def test_a_reader_misses_nothing_when_the_log_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    reader = LogReader(path)
    with path.open("ab", buffering=0) as engine:
        engine.write(b"one\ntw")
        assert reader.read() == ("one",)
        engine.write(b"o\nthree\n")
        rotate(path, backups=1)
        engine.write(b"four\n")
        assert reader.read() == ("two", "three", "four")
        assert read_tail(path) == ("one", "two", "three", "four")
        assert read_tail(path, limit_bytes=12) == ("three", "four")


def test_a_follower_of_a_busy_log_sees_every_line_once(tmp_path: Path) -> None:
    path, found = tmp_path / "a.log", []
    reader = LogReader(path)

    def write() -> None:
        with path.open("ab", buffering=0) as engine:
            for number in range(3000):
                engine.write(b"%d\n" % number)

    writer = threading.Thread(target=write)
    path.touch()
    writer.start()
    while writer.is_alive():
        found += reader.read()
    writer.join()
    found += reader.read()
    rotate(path, backups=1)
    assert found == [str(number) for number in range(3000)]
    assert path.stat().st_size == 0


@pytest.mark.parametrize("content", [b"", b"short\n"])
def test_an_adopted_engines_place_may_lie_in_the_older_part(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"an engine before\nours\n")
    reader = LogReader(path, begin=17)
    rotate(path, backups=1)
    path.write_bytes(content)
    assert reader.read() == ("ours", *content.decode().splitlines())
