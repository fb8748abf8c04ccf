import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vllama.controller.manifest import ManifestInvalid
from vllama.gateway.keys.edit import CannotEdit, add, remove
from vllama.gateway.keys.file import load_entries
from vllama.gateway.keys.key import Scope, digest_of

TODAY = "2026-11-21"


def added(path: Path, name: str, scope: Scope = Scope.MODELS) -> str:
    return add(path, name, scope, today=TODAY)


def names(path: Path) -> list[str]:
    return list(load_entries(path) or {})


def test_a_key_is_in_the_file_as_its_hash_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys.yaml"
    secret = added(path, "ops", Scope.ADMIN)
    entries = load_entries(path)
    assert entries is not None
    assert (entries["ops"].digest, entries["ops"].scope, entries["ops"].added) == (
        digest_of(secret.encode()),
        Scope.ADMIN,
        TODAY,
    )
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["keys.yaml"]


def test_others_stay_and_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    before = {name: added(path, name) for name in ("b", "1", "yes", "a@x.y", "c")}
    entries = load_entries(path)
    assert entries is not None
    assert {name: digest_of(secret.encode()) for name, secret in before.items()} == {
        name: entry.digest for name, entry in entries.items()
    }
    assert remove(path, "1") == 4
    assert names(path) == ["b", "yes", "a@x.y", "c"]


def test_an_open_file_is_closed_and_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "keys.yaml", tmp_path / "keys.yaml"
    real.write_text("keys: {}")
    real.chmod(0o644)
    link.symlink_to(real)
    added(link, "a")
    assert link.is_symlink()
    assert names(real) == ["a"]
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["", "a b", "-a", "é", "a" * 65, "a\n", "../a"])
def test_a_name_that_is_none_changes_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(CannotEdit, match="a name has"):
        added(tmp_path / "keys.yaml", name)
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_given_once(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    added(path, "a")
    before = path.read_bytes()
    with pytest.raises(CannotEdit, match="a already"):
        added(path, "a")
    with pytest.raises(CannotEdit, match="there is no key b; there are: a"):
        remove(path, "b")
    assert path.read_bytes() == before


def test_the_last_one_leaves_a_file_that_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    added(path, "a")
    assert remove(path, "a") == 0
    assert load_entries(path) == {}
    with pytest.raises(CannotEdit, match="there are: none"):
        remove(path, "a")
    with pytest.raises(CannotEdit, match=r"there is no .*keys\.yaml"):
        remove(tmp_path / "other" / "keys.yaml", "a")


def test_a_broken_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text("keys: {a: ")
    for change in (lambda: added(path, "b"), lambda: remove(path, "a")):
        with pytest.raises(ManifestInvalid):
            change()
    assert path.read_text() == "keys: {a: "


def test_two_at_once_both_count(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: added(path, f"k{number}"), range(24)))
    assert sorted(names(path)) == sorted(f"k{number}" for number in range(24))
