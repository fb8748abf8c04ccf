"""The certificate that vllama shows to its clients, and its successors: it is renewed without a restart.

A restart would stop every engine, and certificates are renewed every few weeks.
"""

import asyncio
import ssl
from pathlib import Path

from vllama.controller.condition import Condition
from vllama.controller.events import Events

LOOK_EVERY_S = 30.0


class CertificateUnusable(Exception):
    """The text names the file and says why."""


class Certificate:
    """`context` is for the server: TLS 1.2 and up, and HTTP/1.1 as the only protocol that is offered."""

    def __init__(self, certificate: Path, key: Path, *, events: Events, look_every_s: float = LOOK_EVERY_S) -> None:
        """PEM files: the chain, and its key without a password. Blocks. Raises CertificateUnusable."""
        self._certificate, self._key = certificate, key
        self._events = events
        self._look_every_s = look_every_s
        self._seen = self._content()
        self._error: str | None = None
        self.context = self._loaded()

    async def run(self) -> None:
        """Until cancelled. Connections that are open keep the certificate that they began with."""
        while True:
            await asyncio.sleep(self._look_every_s)
            await self.look()

    async def look(self) -> None:
        """Take what is new in the files. While they do not fit each other the last pair stays in use."""
        try:
            content = await asyncio.to_thread(self._content)
            if content != self._seen:
                await asyncio.to_thread(self._loaded)
                self._load(
                    self.context
                )  # on the loop, where connections take the context too; it reads two small files
                self._seen = content
                self._events.record(
                    "CertificateRenewed", f"New connections are shown what {self._certificate} has now."
                )
            self._error = None
        except CertificateUnusable as error:
            if str(error) != self._error:
                self._events.record("CertificateInvalid", str(error), warning=True)
            self._error = str(error)

    def condition(self) -> Condition:
        if self._error is None:
            return Condition(type="CertificateValid", ok=True, reason="Loaded", message="The certificate is in use.")
        text = f"{self._error} (the last good certificate stays in use)"
        return Condition(type="CertificateValid", ok=False, reason="Invalid", message=text)

    def _content(self) -> tuple[bytes, bytes]:
        try:
            return self._certificate.read_bytes(), self._key.read_bytes()
        except OSError as error:
            raise CertificateUnusable(f"{error.filename} cannot be read: {error.strerror}") from None

    def _loaded(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)  # some systems say none
        context.set_alpn_protocols(["http/1.1"])
        self._load(context)
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(self._certificate, self._key, password=self._no_password)
        except OSError as error:  # SSLError is one
            mismatch = getattr(error, "reason", None) == "KEY_VALUES_MISMATCH"
            why = "the key does not belong to the certificate" if mismatch else "that is no certificate and key in PEM"
            raise CertificateUnusable(f"{self._certificate} and {self._key}: {why}") from None

    def _no_password(self) -> str:
        """Else OpenSSL would ask on the terminal."""
        raise CertificateUnusable(f"{self._key} has a password, and vllama can ask nobody for it")
