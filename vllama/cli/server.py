"""Which server is meant: the one that is named, or the one that runs on the configuration directory."""

import json
import os
from pathlib import Path
from typing import Any

import typer

from vllama.cli.failure import NO_SERVER, CommandFailed

PID_FILE = "server.pid"
_HINT = "  Start one with `vllama serve`, or say where one runs with --server URL."
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104  # read, not bound


def find_server(named: str | None, config_dir: Path) -> str:
    """The base URL, without a final slash. CommandFailed (exit code 3) says what to do."""
    if named is not None:
        return _checked(named)
    path = config_dir.expanduser() / PID_FILE
    entry = _read(path)
    if not _is_alive(entry["pid"]):
        raise CommandFailed(
            f"the vllama server of {config_dir} is gone: {path} names process {entry['pid']}, which no longer runs.\n"
            f"{_HINT}",
            exit_code=NO_SERVER,
        )
    return url_of(entry["host"], entry["port"], scheme="http" if entry["certificate"] is None else "https")


def certificate_of(config_dir: Path) -> Path | None:
    """The PEM file of what the server that runs on `config_dir` shows its clients; None: it speaks plain HTTP."""
    certificate = _read(config_dir.expanduser() / PID_FILE)["certificate"]
    return None if certificate is None else Path(certificate)


def url_of(host: str, port: int, *, scheme: str = "http") -> str:
    """Where to reach what listens on `host`: any address means this machine."""
    host = _ANY_ADDRESS.get(host, host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _checked(named: str) -> str:
    from urllib.parse import urlsplit  # noqa: PLC0415  # not for `--help`

    url = named if "://" in named else f"http://{named}"
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise typer.BadParameter(
            f"{named!r} is no URL; write for example http://127.0.0.1:33258", param_hint="--server"
        )
    return url.rstrip("/")


def _read(path: Path) -> dict[str, Any]:
    """The pid file's `pid`, `host`, `port` and `certificate` (None: no TLS), checked."""
    try:
        entry = json.loads(path.read_text())
    except FileNotFoundError:
        message = f"no vllama server runs on {path.parent} (there is no {path}).\n{_HINT}"
        raise CommandFailed(message, exit_code=NO_SERVER) from None
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror or error}.\n{_HINT}"
        raise CommandFailed(message, exit_code=NO_SERVER) from None
    except ValueError:
        entry = None
    match entry:
        case {"pid": int(pid), "host": str(host), "port": int(port)} if pid > 0:
            return {"pid": pid, "host": host, "port": port, "certificate": entry.get("certificate")}
    message = f"{path} is not what a vllama server writes, so it does not tell where one runs.\n{_HINT}"
    raise CommandFailed(message, exit_code=NO_SERVER)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # somebody else's, but there
    except (ProcessLookupError, OverflowError):
        return False
    return True
