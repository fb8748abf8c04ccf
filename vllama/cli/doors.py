"""Who may come in, as `vllama serve` was told: keys, proxies, web pages, TLS."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vllama.controller.condition import Condition
from vllama.controller.events import Events
from vllama.gateway.cors import Origins, origins
from vllama.gateway.forwarded import proxies
from vllama.gateway.guard import Guard
from vllama.gateway.keys.ring import KeysWatch
from vllama.gateway.tls import Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorSettings:
    """`api_keys` None: keys.yaml beside models.yaml, if there is one. `tls_key` None: it is in the file `tls_cert`."""

    api_keys: Path | None = None
    admin_loopback: bool = True
    forwarded_allow_ips: str = ""
    cors_origins: str = ""
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @property
    def scheme(self) -> str:
        return "http" if self.tls_cert is None else "https"


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    guard: Guard
    origins: Origins | None
    keys: KeysWatch
    certificate: Certificate | None

    @property
    def conditions(self) -> Sequence[Callable[[], Condition | None]]:
        keys = self.keys.keyring.condition
        return (keys,) if self.certificate is None else (keys, self.certificate.condition)

    async def follow(self) -> None:
        """The files as they change, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.keys.run(), name="keys")
            if self.certificate is not None:
                tasks.create_task(self.certificate.run(), name="certificate")


def open_doors(settings: DoorSettings, config_dir: Path, events: Events) -> Doors:
    """Blocks: it reads files. Raises ValueError, ManifestInvalid or CertificateUnusable; their texts are for people."""
    path = settings.api_keys or config_dir / "keys.yaml"
    keys = KeysWatch(path, events=events, required=settings.api_keys is not None)
    certificate = _certificate(settings, events)
    guard = Guard(
        keyring=keys.keyring,
        admin_loopback=settings.admin_loopback,
        proxies=proxies(settings.forwarded_allow_ips),
    )
    return Doors(guard=guard, origins=origins(settings.cors_origins), keys=keys, certificate=certificate)


def _certificate(settings: DoorSettings, events: Events) -> Certificate | None:
    if settings.tls_cert is None:
        if settings.tls_key is not None:
            raise ValueError("--tls-key is of no use without --tls-cert, the certificate that it belongs to.")
        return None
    return Certificate(settings.tls_cert, settings.tls_key or settings.tls_cert, events=events)
