"""Certificates, made on the spot: a new authority for each run of the tests."""

import ssl
from functools import cache
from pathlib import Path

import trustme


@cache
def authority() -> trustme.CA:
    return trustme.CA()


@cache
def issued(name: str = "localhost") -> trustme.LeafCert:
    return authority().issue_cert(name, "127.0.0.1")


def write(directory: Path, leaf: trustme.LeafCert) -> tuple[Path, Path]:
    """The chain and the key, as files."""
    certificate, key = directory / "tls.crt", directory / "tls.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    return certificate, key


def trusting() -> ssl.SSLContext:
    """What a client has that knows the authority."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context
