import json
import os
import subprocess
from pathlib import Path

import pytest
import typer

from vllama.cli.failure import NO_SERVER, CommandFailed
from vllama.cli.server import certificate_of, find_server, url_of


def write_pid_file(directory: Path, **over: object) -> Path:
    entry = {"pid": os.getpid(), "port": 33258, "host": "0.0.0.0", "url": "", "start_time": 0, "config_dir": ""}
    path = directory / "server.pid"
    path.write_text(json.dumps({**entry, **over}))
    return path


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:33258"),
        ("", "http://127.0.0.1:33258"),
        ("::", "http://[::1]:33258"),
        ("::1", "http://[::1]:33258"),
        ("192.168.1.7", "http://192.168.1.7:33258"),
        ("gpu-box", "http://gpu-box:33258"),
    ],
)
def test_the_address_is_one_that_can_be_called(tmp_path: Path, host: str, url: str) -> None:
    write_pid_file(tmp_path, host=host)
    assert find_server(None, tmp_path) == url == url_of(host, 33258)


@pytest.mark.parametrize(
    ("named", "url"),
    [
        ("http://box:1234", "http://box:1234"),
        ("http://box:1234/", "http://box:1234"),
        ("https://box/behind/a/proxy/", "https://box/behind/a/proxy"),
        ("box:1234", "http://box:1234"),
        ("127.0.0.1:1234", "http://127.0.0.1:1234"),
        ("[::1]:1234", "http://[::1]:1234"),
    ],
)
def test_a_named_server_wins_over_the_file(tmp_path: Path, named: str, url: str) -> None:
    write_pid_file(tmp_path)
    assert find_server(named, tmp_path) == url


@pytest.mark.parametrize("named", ["", "ftp://box", "http://", "http://box:port", "http://[::1", "http://box:99999"])
def test_a_name_that_is_no_url_is_a_usage_error(tmp_path: Path, named: str) -> None:
    with pytest.raises(typer.BadParameter, match="write for example http://"):
        find_server(named, tmp_path)


def test_a_server_that_speaks_tls_tells_its_certificate(tmp_path: Path) -> None:
    write_pid_file(tmp_path, certificate="/etc/tls.crt")
    assert find_server(None, tmp_path) == "https://127.0.0.1:33258"
    assert certificate_of(tmp_path) == Path("/etc/tls.crt")
    write_pid_file(tmp_path)
    assert certificate_of(tmp_path) is None


def test_without_a_file_it_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"no vllama server runs on .*\n.*`vllama serve`") as failed:
        find_server(None, tmp_path)
    assert failed.value.exit_code == NO_SERVER


def test_a_file_of_a_process_that_is_gone_is_stale(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    path = write_pid_file(tmp_path, pid=gone.pid)
    with pytest.raises(CommandFailed, match=f"{path} names process {gone.pid}, which no longer runs") as failed:
        find_server(None, tmp_path)
    assert failed.value.exit_code == NO_SERVER
    assert path.exists()  # it is not ours to remove


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"pid": 1}', '{"pid": -1, "host": "h", "port": 1}', '{"pid": 1, "host": 2, "port": 3}', "\xff"],
)
def test_a_file_that_is_something_else_is_said(tmp_path: Path, content: str) -> None:
    (tmp_path / "server.pid").write_bytes(content.encode("latin-1"))
    with pytest.raises(CommandFailed, match="is not what a vllama server writes") as failed:
        find_server(None, tmp_path)
    assert failed.value.exit_code == NO_SERVER


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "server.pid").mkdir()
    with pytest.raises(CommandFailed, match="cannot be read: Is a directory"):
        find_server(None, tmp_path)


def test_somebody_elses_process_is_alive(tmp_path: Path) -> None:
    write_pid_file(tmp_path, pid=1)
    assert find_server(None, tmp_path) == "http://127.0.0.1:33258"


def test_the_home_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".vllama").mkdir()
    write_pid_file(tmp_path / ".vllama", host="10.0.0.1")
    assert find_server(None, Path("~/.vllama")) == "http://10.0.0.1:33258"
