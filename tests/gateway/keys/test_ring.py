"""The keys in force, as the file changes under them."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.waiting import async_wait_until
from vllama.controller.events import Events
from vllama.controller.manifest import ManifestInvalid
from vllama.gateway.keys.edit import add, remove
from vllama.gateway.keys.key import Scope, digest_of
from vllama.gateway.keys.ring import KeysWatch


def names(watch: KeysWatch) -> list[str] | None:
    ring = watch.keyring.ring
    return None if ring is None else sorted(key.name for key in ring.values())


def watched(path: Path, test: Callable[[KeysWatch], Awaitable[None]], *, required: bool = False) -> Events:
    events = Events()

    async def run() -> None:
        watch = KeysWatch(path, events=events, required=required)
        running = asyncio.create_task(watch.run())
        try:
            await test(watch)
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    asyncio.run(run())
    return events


async def until(watch: KeysWatch, wanted: list[str] | None, *, error: str | None = None) -> None:
    async def so() -> bool:
        said = watch.keyring.error
        return names(watch) == wanted and (said is None if error is None else error in (said or ""))

    await async_wait_until(so, what=f"{wanted} with {error}, not {names(watch)} with {watch.keyring.error}")


def test_keys_come_and_go_while_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"

    async def test(watch: KeysWatch) -> None:
        assert names(watch) is None
        assert watch.keyring.condition() is None
        secret = add(path, "a", Scope.ADMIN, today="2026-11-21")
        await until(watch, ["a"])
        key = watch.keyring.key(digest_of(secret.encode()))
        assert key is not None
        assert (key.name, key.scope) == ("a", Scope.ADMIN)
        assert watch.keyring.key(digest_of(b"other")) is None
        add(path, "b", Scope.MODELS, today="2026-11-21")
        await until(watch, ["a", "b"])
        remove(path, "a")
        await until(watch, ["b"])
        assert watch.keyring.key(digest_of(secret.encode())) is None
        remove(path, "b")
        await until(watch, [])

    events = watched(path, test)
    assert [event.message for event in events if event.reason == "KeysApplied"] == [
        "API keys in force: a.",
        "API keys in force: a, b.",
        "API keys in force: b.",
        "API keys in force: none, so nobody is let in by one.",
    ]


@pytest.mark.parametrize(
    "spoil", [lambda path: path.write_text("keys: {a"), lambda path: path.write_text(""), Path.unlink]
)
def test_whatever_happens_to_the_file_the_door_stays_closed(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    path = tmp_path / "keys.yaml"
    add(path, "a", Scope.MODELS, today="2026-11-21")

    async def test(watch: KeysWatch) -> None:
        assert names(watch) == ["a"]
        spoil(path)
        await until(watch, ["a"], error="keys.yaml")
        condition = watch.keyring.condition()
        assert condition is not None
        assert (condition.type, condition.ok) == ("KeysValid", False)
        path.unlink(missing_ok=True)
        add(path, "b", Scope.MODELS, today="2026-11-21")
        await until(watch, ["b"])
        condition = watch.keyring.condition()
        assert condition is not None
        assert condition.ok

    events = watched(path, test)
    assert any(event.reason == "KeysInvalid" and event.warning for event in events)


def test_it_stays_closed_when_the_file_goes_between_two_looks(tmp_path: Path) -> None:
    """The watch has not even looked once."""
    path = tmp_path / "keys.yaml"
    path.write_text("keys: {}")

    async def test(watch: KeysWatch) -> None:
        await until(watch, [], error="the file is gone")

    async def run() -> None:
        watch = KeysWatch(path, events=Events(), required=False)
        path.unlink()
        running = asyncio.create_task(watch.run())
        await test(watch)
        running.cancel()

    asyncio.run(run())


@pytest.mark.parametrize(("text", "required"), [("keys: {a", False), ("", False), (None, True)])
def test_at_the_start_a_bad_file_is_refused(tmp_path: Path, text: str | None, required: bool) -> None:
    if text is not None:
        (tmp_path / "keys.yaml").write_text(text)
    with pytest.raises(ManifestInvalid):
        KeysWatch(tmp_path / "keys.yaml", events=Events(), required=required)
