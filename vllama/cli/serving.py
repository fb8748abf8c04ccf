"""`vllama serve` and `vllama demo`: the command lines."""
# ruff: noqa: PLC0415

import contextlib
import enum
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from vllama.cli.failure import CommandFailed
from vllama.cli.options import CONFIG_DIR, ApiKeys, ConfigDir, Level, LogFormat, LogLevel, Port


class Where(enum.StrEnum):
    """Where engines run."""

    LOCAL = "local"
    RAY = "ray"


def serve(
    *,
    host: Annotated[str, typer.Option(envvar="VLLAMA_HOST", help="Address to listen on.")] = "0.0.0.0",  # noqa: S104
    port: Port = 33258,
    config_dir: ConfigDir = CONFIG_DIR,
    simulate: Annotated[
        str | None,
        typer.Option(envvar="VLLAMA_SIMULATE", metavar="DEVICES", help="Simulated engines and devices, e.g. 2x24GiB."),
    ] = None,
    runtime: Annotated[
        Where, typer.Option(envvar="VLLAMA_RUNTIME", help="Engines on this machine, or on all of a Ray cluster.")
    ] = Where.LOCAL,
    ray_address: Annotated[
        str, typer.Option(envvar="VLLAMA_RAY_ADDRESS", metavar="ADDRESS", help="Of the cluster's head, HOST:PORT.")
    ] = "auto",
    ray_insecure: Annotated[
        bool, typer.Option(envvar="VLLAMA_RAY_INSECURE", help="Also a cluster that anybody may join without a token.")
    ] = False,
    log_level: LogLevel = Level.INFO,
    log_format: Annotated[
        LogFormat, typer.Option(envvar="VLLAMA_LOG_FORMAT", help="Of stderr; auto: for eyes on a terminal, else JSON.")
    ] = LogFormat.AUTO,
    access_log: Annotated[
        bool, typer.Option(envvar="VLLAMA_ACCESS_LOG", help="Log each request to stderr: what it waited for and took.")
    ] = False,
    record_requests: Annotated[
        bool, typer.Option(envvar="VLLAMA_RECORD_REQUESTS", help="Keep time, model and length of each in requests.csv.")
    ] = True,
    file_log_level: Annotated[
        Level, typer.Option(envvar="VLLAMA_FILE_LOG_LEVEL", help="How much it logs to logs/vllama.log of --config-dir.")
    ] = Level.DEBUG,
    log_max_size: Annotated[
        int, typer.Option(envvar="VLLAMA_LOG_MAX_SIZE", min=1, metavar="MB", help="Of each log, engines' too.")
    ] = 10,
    log_backup_count: Annotated[
        int, typer.Option(envvar="VLLAMA_LOG_BACKUP_COUNT", min=0, metavar="N", help="Older parts kept of each log.")
    ] = 5,
    api_keys: ApiKeys = None,
    admin_loopback: Annotated[
        bool,
        typer.Option(envvar="VLLAMA_ADMIN_LOOPBACK", help="Programs on this machine need no key for the admin API."),
    ] = True,
    forwarded_allow_ips: Annotated[
        str,
        typer.Option(
            envvar="VLLAMA_FORWARDED_ALLOW_IPS",
            metavar="IPS",
            help="Proxies whose X-Forwarded-For or Forwarded counts.",
        ),
    ] = "",
    cors_origins: Annotated[
        str,
        typer.Option(envvar="VLLAMA_CORS_ORIGINS", metavar="URLS", help="Sites whose pages may call the models, or *."),
    ] = "",
    tls_cert: Annotated[
        Path | None,
        typer.Option(envvar="VLLAMA_TLS_CERT", metavar="PEM", help="Speak TLS with this certificate chain."),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(envvar="VLLAMA_TLS_KEY", metavar="PEM", help="Its key, if not in the same file.")
    ] = None,
) -> None:
    """Run the server.

    It answers the OpenAI API, and starts, sleeps, wakes and stops engines as models.yaml and the requests want it.
    """
    with _refusals():
        from vllama.cli import wiring
        from vllama.cli.doors import DoorSettings
        from vllama.cli.logging import LogSettings
        from vllama.cli.serve import run

        logs = LogSettings(
            level=log_level.value, format=log_format.value, file_level=file_log_level.value, max_size_mb=log_max_size,
            backup_count=log_backup_count, access=access_log, recording=record_requests,
        )  # fmt: skip
        doors = DoorSettings(
            api_keys=_absolute(api_keys), admin_loopback=admin_loopback, forwarded_allow_ips=forwarded_allow_ips,
            cors_origins=cors_origins, tls_cert=_absolute(tls_cert), tls_key=_absolute(tls_key),
        )  # fmt: skip
        ray = None
        if runtime is Where.RAY:
            ray = wiring.ray_settings(address=ray_address, insecure=ray_insecure, environ=os.environ, logs=logs)
        run(
            host=host, port=port, config_dir=config_dir.expanduser(), simulate=simulate, logs=logs, doors=doors, ray=ray
        )  # fmt: skip


def demo(*, port: Port = 33258, log_level: LogLevel = Level.WARNING) -> None:
    """Try it without a GPU and without vLLM.

    A server on simulated devices with simulated engines, and calls to try; gone when it stops.
    """
    with _refusals():
        from vllama.cli.demo import run

        run(port=port, log_level=log_level.value)


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.expanduser().absolute()


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    from vllama.cli.wiring import CannotServe

    try:
        yield
    except CannotServe as refusal:
        raise CommandFailed(str(refusal)) from None
