"""Against a hub that is real HTTP: whole, cut in the middle, stopped and gone on with."""

import contextlib
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.hub import COMMIT, LATER, Hub, Model, running
from tests.waiting import wait_until
from vllama.engine.cache import find
from vllama.engine.download import Download, partial_of, tidy
from vllama.engine.listing import PullFailed, RemoteFile, look_up
from vllama.engine.resuming import Stopped, fetch

WEIGHTS = random.Random(1).randbytes(3 << 20)
FILES = {
    "config.json": b'{"architectures": ["Qwen3ForCausalLM"]}', "tokenizer.json": b"{}", "odd [name].json": b"[]",
    "model.safetensors": WEIGHTS, "sub/more.safetensors": WEIGHTS[:5000], "README.md": b"#",
}  # fmt: skip


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running({"a/b": Model(commits={COMMIT: FILES, LATER: {**FILES, "tokenizer.json": b"[]"}})}) as hub:
        yield hub


def download(hub: Hub, cache: Path, *, revision: str | None = None, token: str | None = None) -> Download:
    return Download(
        look_up("a/b", revision=revision, endpoint=hub.url, token=token), cache, endpoint=hub.url, token=token
    )


def weights_blob(one: Download) -> Path:
    (file,) = [file for file in one.listing.files if file.name == "model.safetensors"]
    return one.repository / "blobs" / file.blob


def test_a_model_lies_in_the_cache_as_huggingface_hub_lays_it_out(hub: Hub, tmp_path: Path) -> None:
    one = download(hub, tmp_path)
    one.run()
    found = find(tmp_path, "a/b")
    assert found is not None
    assert (found.complete, found.path) == (True, None)
    assert {name: (one.snapshot / name).read_bytes() for name in FILES if name != "README.md"} == {
        name: data for name, data in FILES.items() if name != "README.md"
    }
    assert not (one.snapshot / "README.md").exists()
    assert (one.snapshot / "model.safetensors").resolve() == weights_blob(one)
    assert (one.repository / "refs" / "main").read_text() == COMMIT
    assert one.progress().done_bytes == one.progress().total_bytes == one.listing.size_bytes
    assert hub.contents("model.safetensors") == [None]


@pytest.mark.parametrize("size", [10, 5000])
@pytest.mark.parametrize("name", ["../../escaped.safetensors", "sub/../../../../escaped.safetensors", "/escaped.json"])
def test_a_hub_that_names_files_elsewhere_writes_none_there(tmp_path: Path, name: str, size: int) -> None:
    files = FILES | {name: WEIGHTS[:size]}
    with running({"a/b": Model(commits={COMMIT: files})}) as hub:
        one = download(hub, tmp_path / "hub")
        with contextlib.suppress(PullFailed):
            one.run()
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith("escaped") and "blobs" not in path.parts]
    assert {path.name for path in tmp_path.iterdir()} == {"hub"}
    assert not Path("/escaped.json").exists()


def test_what_is_there_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    download(hub, tmp_path).run()
    hub.asked.clear()
    download(hub, tmp_path).run()
    assert [asked for asked in hub.asked if asked[0] == "GET"] == []


def test_a_new_revision_takes_only_what_is_new(hub: Hub, tmp_path: Path) -> None:
    first = download(hub, tmp_path)
    first.run()
    hub.models["a/b"].refs["main"] = LATER
    hub.asked.clear()
    second = download(hub, tmp_path)
    second.run()
    assert [asked for asked in hub.asked if asked[0] == "GET"] == []
    assert (second.snapshot / "tokenizer.json").read_bytes() == b"[]"
    assert (first.snapshot / "tokenizer.json").read_bytes() == b"{}"
    assert (second.repository / "refs" / "main").read_text() == LATER


def test_a_revision_gets_its_own_reference_and_a_commit_none(hub: Hub, tmp_path: Path) -> None:
    hub.models["a/b"].refs["refs/pr/1"] = COMMIT
    one = download(hub, tmp_path, revision="refs/pr/1")
    one.run()
    assert (one.repository / "refs" / "refs" / "pr" / "1").read_text() == COMMIT
    download(hub, tmp_path / "other", revision=COMMIT).run()
    assert not (tmp_path / "other" / "models--a--b" / "refs").exists()


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub: Hub, tmp_path: Path) -> None:
    hub.faults.cut_after = [1_000_000, 500_000]
    one = download(hub, tmp_path)
    file = next(file for file in one.listing.files if file.name == "model.safetensors")
    blob = tmp_path / "blob"
    with httpx.Client(follow_redirects=True) as http:
        fetch(
            http, f"{hub.url}/a/b/resolve/{COMMIT}/{file.name}", file, blob, partial=partial_of(blob),
            lock=tmp_path / "lock", stop=threading.Event(), pause_s=0.0,
        )  # fmt: skip
    assert blob.read_bytes() == WEIGHTS
    first, second, third = hub.contents("model.safetensors")
    assert first is None
    assert 0 < int(str(second).removeprefix("bytes=").rstrip("-")) <= 1_000_000
    assert int(str(third).removeprefix("bytes=").rstrip("-")) <= 1_500_000


def stopped_in_the_middle(hub: Hub, cache: Path) -> Download:
    """A download that somebody stopped when some of the weights were there."""
    hub.faults.gate.clear()
    one = download(hub, cache)
    ended: list[BaseException] = []

    def run() -> None:
        try:
            one.run()
        except BaseException as error:  # noqa: BLE001
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    partial = partial_of(weights_blob(one))
    wait_until(lambda: partial.exists() and partial.stat().st_size >= 1 << 20, what="some of the weights to come")
    progress = one.progress()
    assert one.files()["model.safetensors"][0] >= 1 << 20
    assert progress.done_bytes < progress.total_bytes
    one.stop()
    hub.faults.gate.set()
    thread.join(20)
    assert [type(error) for error in ended] == [Stopped]
    return one


def test_what_was_stopped_is_not_complete_and_goes_on_from_there(hub: Hub, tmp_path: Path) -> None:
    one = stopped_in_the_middle(hub, tmp_path)
    half_way = find(tmp_path, "a/b")
    assert half_way is not None
    assert not half_way.complete
    assert not (one.repository / "refs").exists()
    have = partial_of(weights_blob(one)).stat().st_size
    hub.asked.clear()
    again = download(hub, tmp_path)
    assert again.progress().done_bytes >= have
    again.run()
    assert hub.contents("model.safetensors") == [f"bytes={have}-"]
    assert (again.snapshot / "model.safetensors").read_bytes() == WEIGHTS
    found = find(tmp_path, "a/b")
    assert found is not None
    assert found.complete


def test_an_update_that_is_stopped_leaves_the_model_callable(hub: Hub, tmp_path: Path) -> None:
    first = download(hub, tmp_path)
    first.run()
    hub.models["a/b"].commits[LATER] = {**FILES, "model.safetensors": WEIGHTS[::-1]}
    hub.models["a/b"].refs["main"] = LATER
    os.utime(first.snapshot, (1_000_000, 1_000_000))
    stopped_in_the_middle(hub, tmp_path)
    found = find(tmp_path, "a/b")
    assert found is not None
    assert (found.complete, found.directory) == (True, first.snapshot)


def test_a_hub_that_ignores_ranges_sends_it_all_again(hub: Hub, tmp_path: Path) -> None:
    one = stopped_in_the_middle(hub, tmp_path)
    hub.faults.ignore_range = True
    download(hub, tmp_path).run()
    assert (one.snapshot / "model.safetensors").read_bytes() == WEIGHTS


def test_what_lies_there_from_something_else_is_found_out(hub: Hub, tmp_path: Path) -> None:
    one = download(hub, tmp_path)
    partial = partial_of(weights_blob(one))
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(len(WEIGHTS) + 5))
    one.run()
    assert (one.snapshot / "model.safetensors").read_bytes() == WEIGHTS
    partial.write_bytes(bytes(1000))
    weights_blob(one).unlink()
    (one.snapshot / "model.safetensors").unlink()
    download(hub, tmp_path).run()
    assert (one.snapshot / "model.safetensors").read_bytes() == WEIGHTS


def test_content_that_is_not_what_the_hub_says_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.faults.corrupt = True
    one = download(hub, tmp_path)
    with pytest.raises(PullFailed, match="other content than the hub says"):
        one.run()
    assert not (one.snapshot / "model.safetensors").exists()


def test_a_hub_that_is_busy_for_a_moment_is_asked_again(hub: Hub, tmp_path: Path) -> None:
    hub.faults.statuses = [503, 429]
    blob = tmp_path / "blob"
    file = next(f for f in look_up("a/b", revision=None, endpoint=hub.url, token=None).files if f.sha256)
    with httpx.Client(follow_redirects=True) as http:
        url = f"{hub.url}/a/b/resolve/{COMMIT}/{file.name}"
        rest = {"partial": partial_of(blob), "lock": tmp_path / "lock", "stop": threading.Event(), "pause_s": 0.0}
        fetch(http, url, file, blob, **rest)
        assert blob.stat().st_size == file.size_bytes
        blob.unlink()
        hub.faults.statuses = [500] * 6
        with pytest.raises(httpx.HTTPStatusError):
            fetch(http, url, file, blob, **rest)


def test_a_gated_model_says_what_to_do(hub: Hub, tmp_path: Path) -> None:
    hub.models["a/b"].gated = True
    with pytest.raises(PullFailed, match="gated"):
        download(hub, tmp_path).run()


def test_the_token_goes_to_the_hub(hub: Hub, tmp_path: Path) -> None:
    hub.models["a/b"].token = "hf_secret"
    download(hub, tmp_path, token="hf_secret").run()
    assert set(hub.tokens) == {"Bearer hf_secret"}
    assert set(hub.tokens_elsewhere) == {None}


def test_a_token_that_lies_on_this_machine_is_not_sent_unless_it_is_meant(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    download(hub, tmp_path).run()
    assert set(hub.tokens) == {None}


def test_a_disk_without_room_is_said_before_anything_comes(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = download(hub, tmp_path / "not" / "there")
    one.check_room()
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(PullFailed, match=r"needs 3\.0 MiB more .* 1\.0 MiB left"):
        one.check_room()
    one.run()
    one.check_room()  # nothing more is needed


def test_a_cache_that_cannot_be_written_is_said(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PullFailed, match="cannot be written: Not a directory"):
        download(hub, tmp_path / "file").run()


def test_two_at_once_do_not_disturb_each_other(hub: Hub, tmp_path: Path) -> None:
    both = [download(hub, tmp_path) for _ in range(2)]
    threads = [threading.Thread(target=one.run) for one in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (both[0].snapshot / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.contents("model.safetensors") == [None]


def test_a_lock_that_others_hold_is_waited_for_until_one_stops(tmp_path: Path) -> None:
    import fcntl

    stop = threading.Event()
    file = RemoteFile(name="x", size_bytes=1, blob="x", sha256="x")
    with (tmp_path / "lock").open("ab") as held, httpx.Client() as http:
        fcntl.flock(held, fcntl.LOCK_EX)
        stop.set()
        with pytest.raises(Stopped):
            fetch(http, "http://x", file, tmp_path / "x", partial=tmp_path / "p", lock=tmp_path / "lock", stop=stop)


def test_what_others_left_lying_is_removed_if_it_is_old(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for name, at in (("old.incomplete", 100), ("new.incomplete", 300), ("blob", 100)):
        (blobs / name).write_bytes(b"x")
        os.utime(blobs / name, (at, at))
    tidy(tmp_path, before=200)
    assert sorted(path.name for path in blobs.iterdir()) == ["blob", "new.incomplete"]
