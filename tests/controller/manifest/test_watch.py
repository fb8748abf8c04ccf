"""The file while it changes, in a real directory: first one look at a time, then the running watch."""

import asyncio
import contextlib
import shutil

import pytest

from tests.waiting import async_wait_until
from vllama.controller.manifest import watch as watch_module
from vllama.controller.manifest.watch import ManifestWatch


class Watched:
    """A ManifestWatch of one file; every ring of its bell is written down as (models, error)."""

    def __init__(self, path, *, poll_interval_s=0.05, settle_s=0.01):
        self.path = path
        self.rings = []
        self.watch = ManifestWatch(path, self._ring, environ={}, poll_interval_s=poll_interval_s, settle_s=settle_s)

    def _ring(self):
        self.rings.append((self.models, self.error))

    @property
    def models(self):
        return list(self.watch.current.models)

    @property
    def error(self):
        return None if self.watch.error is None else str(self.watch.error).removeprefix(f"{self.path}:").strip()

    def look(self, text=None):
        """After `text` is written. (models, error, generation)"""
        if text is not None:
            self.path.write_text(text)
        asyncio.run(self.watch.check())
        return self.models, self.error, self.watch.generation


@pytest.fixture
def watched(tmp_path):
    return Watched(tmp_path / "models.yaml")


def test_a_change(watched):
    assert watched.look("a: {}") == (["a"], None, 1)
    assert watched.look("a: {}\nb: {}") == (["a", "b"], None, 2)
    assert watched.rings == [(["a"], None), (["a", "b"], None)]


def test_nothing_changed(watched):
    watched.look("a: {}")
    assert watched.look() == (["a"], None, 1)
    assert watched.look("a: {}") == (["a"], None, 1)
    assert len(watched.rings) == 1


def test_the_last_good_version_stays(watched):
    watched.look("a: {}")
    assert watched.look("a: {pin: maybe}") == (["a"], "1: a: pin: 'maybe' is neither true nor false", 1)
    assert watched.look("a: {pin: true") == (
        ["a"],
        "1:14: a '{' or '[' is not closed before this; a value with one of , { } [ ] needs quotes",
        1,
    )
    assert watched.look("b: {}") == (["b"], None, 2)
    assert len(watched.rings) == 4


def test_a_mistake_taken_back_is_no_new_version(watched):
    watched.look("a: {}")
    watched.look("a: {pin: maybe}")
    assert watched.look("a: {}") == (["a"], None, 1)
    assert watched.rings[-1] == (["a"], None)


def test_deleted_and_back(watched):
    watched.look("a: {}")
    watched.path.unlink()
    assert watched.look() == (["a"], "the file is gone; the last good version stays in force", 1)
    assert watched.look("a: {}") == (["a"], None, 1)
    assert watched.look("b: {}") == (["b"], None, 2)


@pytest.mark.parametrize("blank", ["", " \n\n"])
def test_emptied(watched, blank):
    watched.look("a: {}")
    message = "the file is empty (write `models: {}` for no models); the last good version stays in force"
    assert watched.look(blank) == (["a"], message, 1)
    assert watched.look("models: {}") == ([], None, 2)


def test_absent_at_first(watched):
    assert watched.look() == ([], None, 1)
    assert watched.look("") == ([], None, 2)
    assert watched.look("a: {}") == (["a"], None, 3)


def test_wrong_at_first(watched):
    models, error, generation = watched.look("a: [")
    assert (models, generation) == ([], 0)
    assert error
    assert watched.look("a: {}") == (["a"], None, 1)


def test_no_file_any_more(watched):
    watched.look("a: {}")
    watched.path.unlink()
    watched.path.mkdir()
    assert watched.look() == (["a"], "this is not a regular file", 1)
    assert watched.look() == (["a"], "this is not a regular file", 1)
    assert len(watched.rings) == 2
    watched.path.rmdir()
    assert watched.look("b: {}") == (["b"], None, 2)


def test_a_bell_that_fails_is_no_end(tmp_path):
    path = tmp_path / "models.yaml"

    def broken():
        raise RuntimeError("no bell")

    watch = ManifestWatch(path, broken, environ={}, settle_s=0.01)
    path.write_text("a: {}")
    asyncio.run(watch.check())
    assert str(watch.error) == f"{path}: the file could not be checked: RuntimeError: no bell"
    assert list(watch.current.models) == ["a"]


@contextlib.asynccontextmanager
async def running(watched):
    task = asyncio.create_task(watched.watch.run())
    try:
        await until(watched, lambda: watched.rings)
        yield
        assert not task.done()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(watched, condition):
    async def so():
        return condition()

    try:
        await async_wait_until(so)
    except pytest.fail.Exception:
        pytest.fail(f"still not so; the bell rang for {watched.rings[-5:]}")


def in_a_running_watch(test):
    """A coroutine function with `watched` as its argument, as a test."""

    def run(watched):
        async def whole():
            watched.path.write_text("a: {}")
            async with running(watched):
                await test(watched)

        asyncio.run(whole())

    run.__name__ = test.__name__
    return run


@in_a_running_watch
async def test_running_a_change(watched):
    watched.path.write_text("b: {}")
    await until(watched, lambda: watched.models == ["b"])
    watched.path.write_text("b: [")
    await until(watched, lambda: watched.error)
    watched.path.unlink()
    await until(watched, lambda: watched.error == "the file is gone; the last good version stays in force")
    assert watched.models == ["b"]


@in_a_running_watch
async def test_replaced_by_rename(watched):
    new = watched.path.with_suffix(".new")
    new.write_text("b: {}")
    new.replace(watched.path)
    await until(watched, lambda: watched.models == ["b"])


@in_a_running_watch
async def test_the_directory_is_replaced(watched):
    directory = watched.path.parent
    shutil.rmtree(directory)
    await until(watched, lambda: watched.error)
    for model in "bcd":
        directory.mkdir()
        watched.path.write_text(f"{model}: {{}}")
        await until(watched, lambda model=model: watched.models == [model])
        shutil.rmtree(directory)


@in_a_running_watch
async def test_many_changes_at_once(watched):
    for number in range(200):
        new = watched.path.with_suffix(".new")
        new.write_text(f"m{number}: {{}}" if number % 3 else "m: [")
        new.replace(watched.path)
        await asyncio.sleep(0)
    await until(watched, lambda: watched.models == ["m199"] and watched.error is None)


def test_kubernetes_swaps_a_symlink(tmp_path):
    def publish(version, text):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "models.yaml").write_text(text)
        (tmp_path / "..data_tmp").symlink_to(f"..{version}")
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")

    async def whole():
        publish("first", "a: {}")
        (tmp_path / "models.yaml").symlink_to("..data/models.yaml")
        watched = Watched(tmp_path / "models.yaml")
        async with running(watched):
            publish("second", "b: {}")
            shutil.rmtree(tmp_path / "..first")
            await until(watched, lambda: watched.models == ["b"])
        assert [error for _, error in watched.rings] == [None, None]

    asyncio.run(whole())


def test_a_link_to_a_file_elsewhere(tmp_path):
    async def whole():
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "watched").mkdir()
        target = tmp_path / "elsewhere" / "models.yaml"
        target.write_text("a: {}")
        (tmp_path / "watched" / "models.yaml").symlink_to(target)
        watched = Watched(tmp_path / "watched" / "models.yaml")
        async with running(watched):
            target.write_text("b: {}")
            await until(watched, lambda: watched.models == ["b"])

    asyncio.run(whole())


def test_no_directory_at_first(tmp_path):
    async def whole():
        watched = Watched(tmp_path / "later" / "models.yaml")
        async with running(watched):
            assert (watched.models, watched.error) == ([], None)
            (tmp_path / "later").mkdir()
            watched.path.write_text("a: {}")
            await until(watched, lambda: watched.models == ["a"])

    asyncio.run(whole())


def test_the_directorys_events_are_enough(tmp_path):
    async def whole():
        watched = Watched(tmp_path / "models.yaml", poll_interval_s=3600)
        watched.path.write_text("a: {}")
        async with running(watched):
            await rewrite_until_seen(watched, "b")

    asyncio.run(whole())


async def rewrite_until_seen(watched, model):
    """Again and again: nobody can tell when the system has begun to watch."""
    versions = iter(range(10_000))

    async def written_and_seen():
        watched.path.write_text(f"{model}: {{priority: {next(versions)}}}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await until(watched, lambda: watched.models == [model])
        return watched.models == [model]

    await async_wait_until(written_and_seen, what=f"{model} from the directory's events")


def test_a_directory_swapped_in_one_step_is_watched_again(tmp_path):
    async def whole():
        directory, other = tmp_path / "config", tmp_path / "other"
        directory.mkdir()
        other.mkdir()
        watched = Watched(directory / "models.yaml", poll_interval_s=3600)
        watched.path.write_text("a: {}")
        async with running(watched):
            await rewrite_until_seen(watched, "b")
            directory.rename(tmp_path / "old")
            other.rename(directory)
            await until(watched, lambda: watched.error == "the file is gone; the last good version stays in force")
            await rewrite_until_seen(watched, "c")

    asyncio.run(whole())


def test_a_file_half_written_is_never_applied(tmp_path):
    async def whole():
        watched = Watched(tmp_path / "models.yaml", settle_s=1.0)
        watched.path.write_text("a: {}")
        async with running(watched):
            with watched.path.open("w") as file:
                for model in "bcdefghijk":
                    file.write(f"{model}: {{}}\n")
                    file.flush()
                    await asyncio.sleep(0.06)  # a slow writer, slower than the watch looks
            await until(watched, lambda: watched.models == list("bcdefghijk"))
        assert watched.rings == [(["a"], None), (list("bcdefghijk"), None)]

    asyncio.run(whole())


def test_without_watches_the_file_is_polled_and_watched_again_when_that_works(tmp_path, monkeypatch):
    real, left = watch_module.awatch, 0

    def awatch(*arguments, **options):
        if not left:
            raise OSError("OS file watch limit reached")
        return real(*arguments, **options)

    monkeypatch.setattr(watch_module, "awatch", awatch)
    watched = Watched(tmp_path / "models.yaml")

    async def whole():
        nonlocal left
        async with running(watched):
            await until(watched, lambda: watched.watch.unwatched == "OSError: OS file watch limit reached")
            watched.path.write_text("a: {}")
            await until(watched, lambda: watched.models == ["a"])
            left = 1
            await until(watched, lambda: watched.watch.unwatched is None)
            watched.path.write_text("b: {}")
            await until(watched, lambda: watched.models == ["b"])

    asyncio.run(whole())
